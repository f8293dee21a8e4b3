//! The live page at `/` of the admin listener, in a real browser, and `/-/events`, on which it stands.

use std::{fmt::Write as _, net::SocketAddr, path::Path};

use rustix::process::Signal;
use serde_json::Value;
use testkit::{
    browser::Browser,
    client::{self, RawClient},
    eventually::within,
    origin::{Origin, Reply},
};

use crate::process::Fanfare;

/// Where screenshots go, if somebody wants them: the pictures of the README are made so.
const SCREENSHOTS: &str = "FANFARE_SCREENSHOTS";

/// A file with many endpoints, none of which answers.
fn many_endpoints(count: usize) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".json").tempfile().expect("a temporary file");
    let targets = (0..count).fold(String::new(), |mut text, n| {
        let comma = if n > 0 { "," } else { "" };
        write!(text, "{comma}\"127.{}.{}.{}:9\"", 1 + n / 62_500, n / 250 % 250, 1 + n % 250).expect("memory");
        text
    });
    std::fs::write(file.path(), format!("[{{\"targets\": [{targets}]}}]")).expect("it can be written");
    file
}

/// The file of a configuration with one route, whose endpoints are pods.
fn named_pods(folder: &Path, origins: &[Origin]) -> String {
    let (list, config) = (folder.join("pods.yaml"), folder.join("fanfare.yaml"));
    let pods = origins.iter().enumerate().fold(String::new(), |text, (n, origin)| {
        format!(
            "{text}- {{targets: ['{}'], labels: {{pod: cache-{n}, namespace: shop, zone: west}}}}\n",
            origin.address()
        )
    });
    std::fs::write(&list, pods).expect("it can be written");
    let text = format!(
        "admin: {{listen: '127.0.0.1:0'}}\nthreads: 2\nbroadcast:\n- listen: 127.0.0.1:0\n  routes: [{{name: purge, to: {{file: {}}}}}]\n",
        list.display()
    );
    std::fs::write(&config, text).expect("it can be written");
    config.to_str().expect("a path of ASCII").to_owned()
}

/// The page of this process, when it has something to show.
async fn page(fanfare: &Fanfare, width: u32) -> Browser {
    let browser = Browser::start(width, 900).await;
    browser.open(&format!("http://{}/", fanfare.admin())).await;
    testkit::eventually!("the page to watch", text(&browser, "#stream").await, |text| text == "Watching");
    testkit::eventually!("the routes", text(&browser, "#routes").await, |text| !text.is_empty());
    browser
}

async fn text(browser: &Browser, selector: &str) -> String {
    let text = browser.eval(&format!("document.querySelector({selector:?}).innerText")).await;
    text.as_str().expect("a text").to_owned()
}

async fn count(browser: &Browser, selector: &str) -> u64 {
    browser.eval(&format!("document.querySelectorAll({selector:?}).length")).await.as_u64().expect("a number")
}

/// Nothing went wrong in the page, and nothing was asked of anybody else.
#[track_caller]
fn assert_quiet(browser: &Browser, admin: SocketAddr) {
    assert_eq!(browser.problems(), [""; 0]);
    let own = format!("http://{admin}/");
    let others: Vec<_> = browser.requests().into_iter().filter(|url| !url.starts_with(&own)).collect();
    // Its icon is nothing, and is in it.
    assert!(others.iter().all(|url| url == "data:,"), "{others:?}");
}

/// Keeps a picture of the page where somebody wants one.
async fn keep_picture(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os(SCREENSHOTS) {
        let file = Path::new(&folder).join(name);
        std::fs::write(&file, browser.screenshot().await).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    }
}

#[tokio::test]
async fn requests_and_outcomes_appear_without_a_reload() {
    let mut origins = [Origin::start(Reply::ok("one")), Origin::start(Reply::ok("two"))];
    origins.sort_by_key(Origin::address);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let fanfare = Fanfare::serve(["run", "--config", &named_pods(folder.path(), &origins)]).await;
    fanfare.wait_ready().await;
    let browser = page(&fanfare, 1200).await;
    testkit::eventually!("the endpoints", count(&browser, "#endpoints tr").await, |count| *count == 2);
    assert!(text(&browser, "#endpoints").await.contains("none yet"), "no outcome so far");

    client::request(fanfare.address(), "PURGE", "/<b>a</b>?x", &[], b"").await.complete().expect_status(400);
    client::request(fanfare.address(), "PURGE", "/logo.png", &[], b"").await.complete().expect_status(200);
    let requests =
        testkit::eventually!("the request", text(&browser, "#requests").await, |text| text.contains("PURGE /logo.png"));
    assert!(requests.contains("200 ok"), "{requests}");
    for pod in ["cache-0", "cache-1"] {
        assert!(requests.contains(&format!("{pod} 200")), "each copy: {requests}");
    }
    testkit::eventually!("the outcomes", count(&browser, "#endpoints .strip .ok").await, |count| *count >= 2);
    testkit::eventually!("the count", text(&browser, "#routes").await, |text| text.contains("ok 1"));

    origins[1].set(Reply::new(500));
    client::get(fanfare.address(), "/again").await.complete().expect_status(500);
    testkit::eventually!("the outcome that changed", count(&browser, "#endpoints .strip .bad").await, |count| *count
        == 1);
    testkit::eventually!("the failure", count(&browser, "#requests .bad").await, |count| *count >= 2);
    assert_eq!(count(&browser, "#requests b").await, 0, "what clients send is text");
    keep_picture(&browser, "page-light.png").await;
    browser.prefer_dark(true).await;
    keep_picture(&browser, "page-dark.png").await;
    assert_quiet(&browser, fanfare.admin());
}

#[tokio::test]
async fn it_can_be_used_on_a_phone_in_the_dark_and_by_everybody() {
    let origins = [Origin::start(Reply::ok("one")), Origin::start(Reply::new(503))];
    let fanfare = Fanfare::broadcast(&origins.each_ref().map(Origin::address), &[]).await;
    fanfare.wait_ready().await;
    let browser = page(&fanfare, 380).await;
    client::get(
        fanfare.address(),
        "/a-path-that-is-long-enough-to-be-wider-than-a-phone/and-longer-still/and-on/and-on",
    )
    .await;
    testkit::eventually!("the request", count(&browser, "#requests tr").await, |count| *count == 1);
    testkit::eventually!("the outcomes", count(&browser, "#endpoints .strip .bad").await, |count| *count == 1);
    assert_eq!(browser.eval("document.documentElement.scrollWidth").await, 380, "nothing is wider than the screen");
    let mut grounds = Vec::new();
    for (dark, width) in [(false, 380), (true, 380), (false, 1200), (true, 1200)] {
        browser.prefer_dark(dark).await;
        browser.resize(width, 900).await;
        grounds.push(browser.eval("getComputedStyle(document.body).backgroundColor").await);
        assert_eq!(browser.barriers().await, [""; 0], "dark: {dark}, {width} wide");
    }
    assert!(grounds[0] == grounds[2] && grounds[1] == grounds[3] && grounds[0] != grounds[1], "{grounds:?}");

    // With the keyboard alone: on to the button, which is pressed, so that what comes waits.
    let focused = "document.activeElement.id";
    browser.eval("document.activeElement.blur()").await;
    for _ in 0..20 {
        browser.press("Tab").await;
        if browser.eval(focused).await == "pause" {
            break;
        }
    }
    assert_eq!(browser.eval(focused).await, "pause");
    assert_ne!(browser.eval("getComputedStyle(document.activeElement).outlineStyle").await, "none");
    browser.press(" ").await;
    let pressed = "document.activeElement.getAttribute('aria-pressed')";
    testkit::eventually!("the button to be pressed", browser.eval(pressed).await, |pressed| *pressed == "true");
    client::get(fanfare.address(), "/second").await.complete().expect_status(503);
    testkit::eventually!("it to wait", text(&browser, "#requests-note").await, |text| text
        .contains("paused, 1 waiting"));
    assert_eq!(count(&browser, "#requests tr").await, 1);
    browser.press(" ").await;
    testkit::eventually!("what waited", count(&browser, "#requests tr").await, |count| *count == 2);
    assert_eq!(browser.eval("document.querySelector('[aria-live]').getAttribute('aria-live')").await, "polite");
    assert_quiet(&browser, fanfare.admin());
}

#[tokio::test]
async fn ten_thousand_endpoints_and_many_requests_leave_it_small() {
    let file = many_endpoints(10_000);
    let path = file.path().to_str().expect("a path of ASCII");
    let origin = Origin::start(Reply::ok("fine"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("fanfare.yaml");
    let text_of_config = format!(
        "admin: {{listen: '127.0.0.1:0'}}\nthreads: 1\naccess_log: 'off'\nready: any\nbroadcast:\n- listen: 127.0.0.1:0\n  routes:\n  \
         - {{name: quick, match: {{path: /quick}}, to: {{endpoints: ['{}']}}}}\n  - {{name: many, to: {{file: {path}}}}}\n",
        origin.address()
    );
    std::fs::write(&config, text_of_config).expect("it can be written");
    let fanfare = Fanfare::serve(["run", "--config", config.to_str().expect("ASCII")]).await;
    let all = format!("/-/endpoints of {path}");
    let ready = async || client::get(fanfare.admin(), "/-/ready?route=many").await.complete().status;
    testkit::eventually!(all, ready().await, |status| *status == 200);
    let browser = page(&fanfare, 1200).await;
    testkit::eventually!("the first ones", text(&browser, "#endpoints-note").await, |text| text
        == "200 shown of 10001 found; there are 10001.");
    testkit::eventually!("their rows", count(&browser, "#endpoints tr").await, |count| *count == 200);
    browser.eval("document.querySelector('#find').focus()").await;
    for key in "127.1.39.250".chars() {
        browser.press(&key.to_string()).await;
    }
    let found =
        testkit::eventually!("the one that is looked for", text(&browser, "#endpoints-note").await, |text| text
            .starts_with("1 shown of 1 found"));
    assert!(found.ends_with("there are 10001."), "{found}");
    testkit::eventually!("its row", text(&browser, "#endpoints").await, |text| text.contains("127.1.39.250:9"));

    let sent = load(&browser, fanfare.address()).await;
    let counted = format!("ok {sent}");
    testkit::eventually!("all of them to be counted", text(&browser, "#routes").await, |text| text.contains(&counted));
    let rows = count(&browser, "#requests tr").await;
    assert!((1..=200).contains(&rows), "{rows} rows: what is shown has a bound");
    assert!(count(&browser, "*").await < 10_000, "the document has a bound");
    assert_quiet(&browser, fanfare.admin());
}

/// Sends requests over several connections until the page says that it leaves some out, 2,000 at least, while it goes on drawing. Every one is
/// answered. How many it were.
async fn load(browser: &Browser, to: SocketAddr) -> usize {
    /// Over as many connections at a time.
    const SENDERS: usize = 4;
    const AT_LEAST: usize = 2_000;
    browser.eval("window.drawn = 0; (function draw() { drawn += 1; requestAnimationFrame(draw); })(); null").await;
    let (mut sent, mut says_so) = (0, false);
    while sent < AT_LEAST || !says_so {
        let drawn = browser.eval("drawn").await.as_u64().expect("a number");
        let senders = (0..SENDERS).map(|sender| async move {
            let mut client = RawClient::connect(to).await;
            for n in 0..AT_LEAST / 8 / SENDERS {
                client.send(client::request_bytes("x", "GET", &format!("/quick?{sender}-{n}"), &[], b"")).await;
                client.read_response("GET").await.complete().expect_status(200);
            }
            AT_LEAST / 8 / SENDERS
        });
        sent += futures::future::join_all(senders).await.into_iter().sum::<usize>();
        testkit::eventually!("the page to draw", browser.eval("drawn").await.as_u64(), |now| *now > Some(drawn + 2));
        says_so = text(browser, "#requests-note").await.contains("left out");
        assert!(sent < 100 * AT_LEAST, "nothing was left out of {sent} requests");
    }
    sent
}

#[tokio::test]
async fn where_tokens_are_asked_for_the_page_asks_for_one_and_shows_nothing_before() {
    let origin = Origin::start(Reply::ok("fine"));
    let tokens = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(tokens.path(), "ops:a-token-of-the-operators\n").expect("it can be written");
    let path = tokens.path().to_str().expect("a path of ASCII");
    let fanfare = Fanfare::broadcast(&[origin.address()], &["--metrics-tokens", path]).await;
    let overview = client::get(fanfare.admin(), "/-/overview").await.complete();
    assert_eq!((overview.status, client::get(fanfare.admin(), "/-/events").await.status), (401, 401));
    let browser = Browser::start(800, 600).await;
    browser.open(&format!("http://{}/", fanfare.admin())).await;
    testkit::eventually!("it to ask", browser.eval("document.querySelector('#access').hidden").await, |hidden| {
        *hidden == Value::Bool(false)
    });
    assert_eq!(count(&browser, "#routes tr").await, 0);
    browser.eval("document.querySelector('#token').focus()").await;
    for key in "a-token-of-the-operators".chars() {
        browser.press(&key.to_string()).await;
    }
    browser.press("Enter").await;
    testkit::eventually!("the endpoint", count(&browser, "#endpoints tr").await, |count| *count == 1);
    testkit::eventually!("the page to watch", text(&browser, "#stream").await, |text| text == "Watching");
}

#[tokio::test]
async fn the_page_is_what_its_policy_says_and_events_end_with_the_drain() {
    let origin = Origin::start(Reply::ok("fine"));
    let fanfare = Fanfare::broadcast(&[origin.address()], &[]).await;
    fanfare.wait_ready().await;
    let admin = fanfare.admin();
    for (path, kind) in [("/", "text/html"), ("/-/page.css", "text/css"), ("/-/page.js", "text/javascript")] {
        let answer = client::get(admin, path).await.complete().expect_status(200);
        assert!(answer.header("content-type").is_some_and(|told| told.starts_with(kind)), "{answer}");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"), "{policy}");
    }
    let mut watching = RawClient::connect(admin).await;
    watching.send(client::request_bytes("x", "GET", "/-/events", &[], b"")).await;
    let mut events = watching.read_head("GET").await;
    assert_eq!((events.status, events.header("content-type")), (200, Some("text/event-stream")));
    client::request(fanfare.address(), "PURGE", "/logo.png", &[("Authorization", "Bearer secret")], b"").await;
    let told = within("the request", async {
        while !events.text().contains("logo.png") {
            let more = events.body_length + 1;
            watching.read_body(&mut events, more).await;
        }
        events.text()
    });
    let told = told.await;
    assert!(told.contains("event: request\ndata: {") && !told.contains("secret"), "{told}");
    fanfare.signal(Signal::TERM);
    watching.wait_end().await;
    assert_eq!(fanfare.finish().await.code, Some(0));
}
