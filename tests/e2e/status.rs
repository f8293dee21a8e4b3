//! `fanfare status`: what a running process says of itself, in the terminal and as JSON.

use std::net::SocketAddr;

use rustix::process::Signal;
use testkit::{
    client,
    origin::{Origin, Refusing, Reply},
    pki::{Authority, SecretDir},
};

use crate::process::{Fanfare, Finished, run};

#[tokio::test]
async fn routes_and_endpoints_are_shown_with_how_they_answered() {
    let origin = Origin::start(Reply::ok("fine"));
    let down = Refusing::new();
    let fanfare = Fanfare::broadcast(&[origin.address(), down.address()], &["--require", "any"]).await;
    fanfare.wait_ready().await;
    assert_eq!(client::request(fanfare.address(), "PURGE", "/", &[], b"").await.status, 200);
    let admin = fanfare.admin().to_string();
    let page = async || run(["status", "--admin", &admin]).await;
    // What comes after the address in its row.
    let row = |page: &Finished, address: SocketAddr| {
        let address = address.to_string();
        page.stdout.lines().find_map(|line| line.strip_prefix(&address)).unwrap_or_default().to_owned()
    };
    let both =
        |page: &Finished| row(page, origin.address()).contains("200") && row(page, down.address()).contains("connect");
    let page = testkit::eventually!("both outcomes", page().await, both);
    assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""));
    let first = page.stdout.lines().next().expect("a line");
    assert!(first.starts_with("fanfare ") && first.ends_with(&format!("{admin}: ready")), "{first}");
    assert!(page.stdout.contains("any of 2 endpoints"), "{}", page.stdout);
    let json = run(["status", "--admin", &admin, "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    assert_eq!((&json["ready"], &json["routes"][0]["endpoints"][0]["ready"]), (&true.into(), &true.into()));
    assert_eq!(json["admin"], admin);
}

#[tokio::test]
async fn a_watch_goes_on_until_it_is_interrupted() {
    let origin = Origin::start(Reply::ok("fine"));
    let fanfare = Fanfare::broadcast(&[origin.address()], &[]).await;
    fanfare.wait_ready().await;
    let admin = fanfare.admin().to_string();
    let watch = Fanfare::start(["status", "--admin", &admin, "--watch", "-o", "json"]);
    let two = |text: &str| text.lines().count() >= 2;
    let shown = watch.stdout.wait("a second answer", two).await.lines().count();
    fanfare.signal(Signal::STOP);
    let told = watch.stderr.wait("that there is no answer", |text: &str| text.contains("does not answer")).await;
    assert!(told.contains(&admin) && told.contains("asking again"), "{told}");
    fanfare.signal(Signal::CONT);
    let text = watch.stdout.wait("an answer after that", |text: &str| text.lines().count() > shown + 1).await;
    for line in text.lines() {
        let status: serde_json::Value = serde_json::from_str(line).expect("a document in each line");
        assert_eq!(status["ready"], true);
    }
    watch.signal(Signal::INT);
    assert_eq!(watch.finish().await.code, Some(0));
}

#[tokio::test]
async fn where_nobody_listens_or_a_token_is_wanted_it_says_what_to_do() {
    let nobody = Refusing::new().address().to_string();
    let told = run(["status", "--admin", &nobody]).await;
    assert_eq!((told.code, told.stdout.as_str()), (Some(1), ""));
    assert!(told.stderr.contains("no process listens at") && told.stderr.contains("--admin"), "{}", told.stderr);
    for answer in ["{}", "[]", r#"{"ready": true}"#, "fine"] {
        let other = Origin::start(Reply::ok(answer));
        let told = run(["status", "--admin", &other.address().to_string()]).await;
        assert_eq!((told.code, told.stdout.as_str()), (Some(1), ""), "{answer}");
        assert!(told.stderr.contains("not as an admin listener of fanfare"), "{}", told.stderr);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("it is text").to_owned();
    std::fs::write(path("tokens"), "ops:hunter2\n").expect("it can be written");
    std::fs::write(path("token"), "hunter2\n").expect("it can be written");
    let origin = Origin::start(Reply::ok("fine"));
    let fanfare = Fanfare::broadcast(&[origin.address()], &["--metrics-tokens", &path("tokens")]).await;
    let admin = fanfare.admin().to_string();
    let refused = run(["status", "--admin", &admin]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("--token-file"), "{}", refused.stderr);
    let shown = run(["status", "--admin", &admin, "--token-file", &path("token")]).await;
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    assert!(shown.stdout.starts_with("fanfare ") && !shown.stdout.contains("hunter2"), "{}", shown.stdout);
}

#[tokio::test]
async fn a_listener_with_tls_is_asked_by_https_and_must_be_the_right_one() {
    let (authority, other) = (Authority::new("right"), Authority::new("other"));
    let secret = SecretDir::of(&authority.issue(&["admin.example", "127.0.0.1"]), &authority);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        path.to_str().expect("it is text").to_owned()
    };
    let (ca, wrong) = (file("ca.pem", &authority.pem()), file("wrong.pem", &other.pem()));
    let (tokens, token) = (file("tokens", "ops:hunter2\n"), file("token", "hunter2\n"));
    let path = |name: &str| secret.path(name).to_str().expect("it is text").to_owned();
    let (cert, key) = (path("tls.crt"), path("tls.key"));
    let origin = Origin::start(Reply::ok("fine"));
    let flags = ["--metrics-tls-cert", &cert, "--metrics-tls-key", &key, "--metrics-tokens", &tokens];
    let fanfare = Fanfare::broadcast(&[origin.address()], &flags).await;
    let address = fanfare.admin().to_string();
    let admin = format!("https://{address}");
    let told = async |flags: &[&str]| {
        run(["status", "--admin", &admin, "--token-file", &token].iter().copied().chain(flags.iter().copied())).await
    };
    for flags in [&["--ca", &ca][..], &["--ca", &ca, "--server-name", "admin.example"]] {
        let shown = told(flags).await;
        assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{flags:?}");
        assert!(shown.stdout.contains(&origin.address().to_string()), "{}", shown.stdout);
    }
    for (flags, why) in [
        (&["--ca", &wrong][..], "the TLS connection to"),
        (&["--ca", &ca, "--server-name", "other.example"], "other.example"),
        (&[], "--ca"),
        (&["--ca", "/nowhere/ca.pem"], "/nowhere/ca.pem"),
    ] {
        let refused = told(flags).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""), "{flags:?}");
        assert!(refused.stderr.contains(why) && !refused.stderr.contains("hunter2"), "{flags:?}: {}", refused.stderr);
    }
    let in_clear = run(["status", "--admin", &address]).await;
    assert_eq!(in_clear.code, Some(1));
    assert!(in_clear.stderr.contains(&format!("--admin https://{address}")), "{}", in_clear.stderr);
    let wrong = run(["status", "--admin", &address, "--ca", &ca]).await;
    assert!(wrong.code == Some(64) && wrong.stderr.contains("https://"), "{}", wrong.stderr);
}
