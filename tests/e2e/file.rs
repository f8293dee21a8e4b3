//! `--endpoints-file`: edits take effect, invalid ones keep the last good list.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use testkit::{
    client,
    origin::{Origin, Reply},
    pki::{Authority, SecretDir},
    tls_relay::TlsRelay,
};

use crate::process::{Fanfare, run};

fn file(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    (folder, path)
}

fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("it can be written");
    std::fs::rename(&new, path).expect("it can be renamed");
}

async fn serve(path: &Path) -> Fanfare {
    let path = path.to_str().expect("a path of ASCII");
    let flags = ["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--threads", "2", "--endpoints-file", path];
    let fanfare = Fanfare::serve(flags).await;
    fanfare.wait_ready().await;
    fanfare
}

#[tokio::test]
async fn good_edits_take_effect_and_broken_ones_keep_the_last_good_list() {
    let (one, two) = (Origin::start(Reply::ok("one")), Origin::start(Reply::ok("two")));
    let (_folder, path) = file("endpoints.json");
    write(&path, &format!("[{{\"targets\": [\"{}\"], \"labels\": {{\"zone\": \"west\"}}}}]", one.address()));
    let fanfare = serve(&path).await;
    assert_eq!(client::get(fanfare.address(), "/").await.complete().text(), "one");
    assert!(client::get(fanfare.admin(), "/-/endpoints").await.text().contains("west"));

    write(&path, &format!("[{{\"targets\": [\"{}\"]}}]", two.address()));
    let answer = async || client::get(fanfare.address(), "/").await.complete();
    testkit::eventually!("the other endpoint", answer().await, |answer| answer.text() == "two");

    for broken in ["[{\"targets\": [\"", "", "[{\"targets\": [\"nowhere\"]}]", "{}"] {
        let before = fanfare.stderr.text().matches("keeping the last good list").count();
        write(&path, broken);
        let told = |log: &str| log.matches("keeping the last good list").count() > before;
        fanfare.stderr.wait("the broken edit to be noticed", told).await;
        assert_eq!(answer().await.text(), "two", "after {broken:?}");
        fanfare.wait_ready().await;
    }
    std::fs::remove_file(&path).expect("it is there");
    fanfare.stderr.wait("the loss to be noticed", |log| log.contains("cannot read")).await;
    assert_eq!(answer().await.text(), "two", "after the file has gone");

    write(&path, &format!("[{{\"targets\": [\"{}\"]}}]", one.address()));
    testkit::eventually!("the first endpoint again", answer().await, |answer| answer.text() == "one");
}

#[tokio::test]
async fn yaml_is_read_as_well() {
    let (one, two) = (Origin::start(Reply::ok("one")), Origin::start(Reply::ok("two")));
    let (_folder, path) = file("endpoints.yaml");
    write(&path, &format!("- targets: ['{}', '{}']\n", one.address(), two.address()));
    let fanfare = serve(&path).await;
    client::get(fanfare.address(), "/a").await.complete().expect_status(200);
    for origin in [&one, &two] {
        assert_eq!(origin.wait_requests(1).await[0].target, "/a");
    }
}

#[tokio::test]
async fn a_pattern_follows_files_that_come_and_go() {
    let (one, two) = (Origin::start(Reply::ok("one")), Origin::start(Reply::ok("two")));
    let (folder, a) = file("a.yaml");
    let b = folder.path().join("b.yaml");
    write(&a, &format!("- targets: ['{}']\n", one.address()));
    let fanfare = serve(&folder.path().join("*.yaml")).await;
    client::get(fanfare.address(), "/1").await.complete().expect_status(200);
    write(&b, &format!("- targets: ['{}']\n", two.address()));
    let sent_to_both = async || {
        client::get(fanfare.address(), "/2").await.complete().headers.get("x-broadcast-result").map(str::to_owned)
    };
    testkit::eventually!("both endpoints", sent_to_both().await, |result| result
        .as_deref()
        .is_some_and(|result| result.contains("total=2, ok=2")));
    std::fs::remove_file(&a).expect("it is there");
    testkit::eventually!("the other endpoint alone", client::get(fanfare.address(), "/3").await.complete(), |answer| {
        answer.text() == "two"
            && answer.headers.get("x-broadcast-result").is_some_and(|result| result.contains("total=1"))
    });
}

#[tokio::test]
async fn targets_with_a_scheme_are_reached_by_it_and_one_with_a_path_is_refused() {
    let (clear, secret_one) = (Origin::start(Reply::ok("clear")), Origin::start(Reply::ok("by TLS")));
    let authority = Authority::new("endpoints");
    let secret = SecretDir::of(&authority.issue(&["127.0.0.1"]), &authority);
    let relay =
        TlsRelay::in_front("127.0.0.1:0", authority.issue(&["127.0.0.1"]).server(&["http/1.1"]), secret_one.address());
    let relay = relay.await;
    let (ca, secure) = (secret.path("ca.crt"), format!("https://{}", relay.address));
    let ca = ca.to_str().expect("a path of ASCII");
    let more = ["-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--threads", "1", "--upstream-ca", ca];
    let (_folder, path) = file("endpoints.json");
    let put = |targets: &[&str]| write(&path, &serde_json::json!([{"targets": targets}]).to_string());
    let list = format!("{secure},http://{}", clear.address());
    put(&[&secure, &format!("http://{}", clear.address())]);
    let sources = [["--endpoints", &*list], ["--endpoints-file", path.to_str().expect("a path of ASCII")]];
    for (n, source) in sources.into_iter().enumerate() {
        let fanfare = Fanfare::serve(["broadcast"].iter().chain(&source).chain(&more)).await;
        fanfare.wait_ready().await;
        let answer = client::request(fanfare.address(), "PUT", "/x", &[], b"body").await.complete().expect_status(200);
        let result = answer.headers.get("x-broadcast-result");
        assert!(result.is_some_and(|result| result.contains("total=2, ok=2")), "{answer}");
        for origin in [&clear, &secret_one] {
            assert_eq!(origin.wait_requests(n + 1).await[n].text(), "body");
        }
        if source[0] == "--endpoints-file" {
            put(&[&format!("{secure}/path")]);
            fanfare.stderr.wait("the refusal", |log| log.contains("nothing may follow the port")).await;
            assert_eq!(client::get(fanfare.address(), "/").await.complete().status, 200, "the last good list");
        }
    }
    let ended = run(["broadcast", "--endpoints", &format!("{secure}/path")]).await;
    assert!(ended.code == Some(64) && ended.stderr.contains("nothing may follow the port"), "{}", ended.stderr);
}
