//! `fanfare status`: what a running process says of itself, in the terminal and as JSON.

use rustix::process::Signal;
use testkit::{
    client,
    origin::{Origin, Refusing, Reply},
};

use crate::process::{Fanfare, run};

#[tokio::test]
async fn routes_and_endpoints_are_shown_with_how_they_answered() {
    let origin = Origin::start(Reply::ok("fine"));
    let down = Refusing::new();
    let fanfare = Fanfare::broadcast(&[origin.address(), down.address()], &["--require", "any"]).await;
    fanfare.wait_ready().await;
    assert_eq!(client::request(fanfare.address(), "PURGE", "/", &[], b"").await.status, 200);
    let admin = fanfare.admin().to_string();
    let page = async || run(["status", "--admin", &admin]).await;
    let page = testkit::eventually!("both outcomes", page().await, |page| page.stdout.contains("connect"));
    assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""));
    let first = page.stdout.lines().next().expect("a line");
    assert!(first.starts_with("fanfare ") && first.ends_with(&format!("{admin}: ready")), "{first}");
    let row = |address: String| {
        page.stdout.lines().find(|line| line.starts_with(&address)).unwrap_or_else(|| panic!("{}", page.stdout))
    };
    assert!(row(origin.address().to_string()).contains("200") && row(down.address().to_string()).contains("connect"));
    assert!(page.stdout.contains("any of 2 endpoints"), "{}", page.stdout);
    let json = run(["status", "--admin", &admin, "-o", "json"]).await;
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("it is JSON");
    assert_eq!((&json["ready"], &json["routes"][0]["endpoints"][0]["ready"]), (&true.into(), &true.into()));
}

#[tokio::test]
async fn a_watch_goes_on_until_it_is_interrupted() {
    let origin = Origin::start(Reply::ok("fine"));
    let fanfare = Fanfare::broadcast(&[origin.address()], &[]).await;
    fanfare.wait_ready().await;
    let admin = fanfare.admin().to_string();
    let watch = Fanfare::start(["status", "--admin", &admin, "--watch", "-o", "json"]);
    let two = |text: &str| text.lines().count() >= 2;
    let text = watch.stdout.wait("a second answer", two).await;
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
