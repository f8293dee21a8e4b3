//! TLS with clients: the choice of the certificate, accepted clients, and errors.

use rustix::process::Signal;
use testkit::{
    client::{self, RawClient},
    eventually,
    origin::{Origin, Reply},
};

use super::bed::{Curl, File, Pair, strs};
use crate::process::Fanfare;

async fn broadcast(origin: &Origin, flags: &[String]) -> Fanfare {
    let fanfare = Fanfare::broadcast(&[origin.address()], &strs(flags)).await;
    fanfare.wait_ready().await;
    fanfare
}

#[tokio::test]
async fn the_name_that_is_asked_for_chooses_the_certificate_and_the_first_is_the_default() {
    let origin = Origin::start(Reply::ok("fine"));
    let (one, two) = (Pair::of("one", &["one.example"]), Pair::of("two", &["two.example", "*.two.example"]));
    let fanfare = broadcast(&origin, &[one.listener(), two.listener()].concat()).await;
    for (name, pair, other) in [("one.example", &one, &two), ("two.example", &two, &one), ("a.two.example", &two, &one)]
    {
        Curl::https(name, fanfare.address()).trusting(pair).get().await.expect(200);
        let refused = Curl::https(name, fanfare.address()).trusting(other).get().await.expect(0);
        assert!(refused.error.contains("certificate"), "{name}: {}", refused.error);
    }
    // An unknown server name gets the first certificate, which a verifying client refuses.
    let looser = |name: &str| Curl::https(name, fanfare.address()).with(&["-k", "-w", "%{certs}\n%{http_code} 1"]);
    let der = |text: &str| text.lines().filter(|line| !line.contains("CERTIFICATE")).collect::<String>();
    for (name, shown) in [("nobody.example", &one), ("b.a.two.example", &one), ("b.two.example", &two)] {
        let got = looser(name).get().await.expect(200);
        assert!(der(&got.body).contains(&der(&shown.issued.chain)), "{name}: {}", got.body);
    }
}

#[tokio::test]
async fn a_renewed_pair_is_shown_and_a_broken_one_is_not() {
    let origin = Origin::start(Reply::ok("fine"));
    let (old, new, other) = (Pair::of("old", &["a.example"]), Pair::of("new", &["a.example"]), Pair::of("x", &["x"]));
    let fanfare = broadcast(&origin, &old.listener()).await;
    let by = async |pair: &Pair| Curl::https("a.example", fanfare.address()).trusting(pair).get().await.status;
    let metrics = async || client::get(fanfare.admin(), "/metrics").await.complete().text();
    let (cert, key) = (old.path("tls.crt"), old.path("tls.key"));
    let reloads = |file: &str, result: &str, count: u32| {
        format!("fanfare_tls_reloads_total{{file=\"{file}\",result=\"{result}\"}} {count}\n")
    };
    assert_eq!((by(&old).await, by(&new).await), (200, 0));
    let before = metrics().await;
    assert!(before.contains(&reloads(&cert, "ok", 0)) && before.contains(&reloads(&key, "failed", 0)), "{before}");
    let expiry = |text: &str| {
        let begin = format!("fanfare_tls_certificate_expiry_timestamp_seconds{{file=\"{cert}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&begin)?.parse::<u64>().ok())
    };
    assert!(expiry(&before).is_some(), "{before}");

    old.secret.renew(&new.issued, &new.authority);
    eventually!("the new certificate", by(&new).await, |status| *status == 200);
    assert_eq!(by(&old).await, 200, "its CA file is the new one now as well");
    let renewed = [reloads(&cert, "ok", 1), reloads(&key, "ok", 1)];
    eventually!("the counts", metrics().await, |text| renewed.iter().all(|count| text.contains(count)));

    // Another certificate's key: the pair is replaced as a whole or not at all.
    let files = [("tls.crt", other.issued.chain.as_str()), ("tls.key", new.issued.key.as_str()), ("ca.crt", "")];
    old.secret.swap(&files);
    let told = format!("{key}: this key does not belong to the certificate in {cert}; the contents read before stay");
    fanfare.stderr.wait("the fault", |log| log.contains(&told)).await;
    eventually!("the count", metrics().await, |text| text.contains(&reloads(&key, "failed", 1)));
    assert_eq!(by(&new).await, 200);
    old.secret.swap(&[("tls.crt", ""), ("tls.key", "")]);
    fanfare.stderr.wait("the next fault", |log| log.contains("there is no certificate in it; it is empty")).await;
    assert_eq!(by(&new).await, 200);
    old.secret.renew(&new.issued, &new.authority);
    fanfare.stderr.wait("the end of the fault", |log| log.contains("the files can be used again")).await;
    let newest = new.authority.issue(&["b.example"]);
    old.secret.renew(&newest, &new.authority);
    let by_name = async || Curl::https("b.example", fanfare.address()).trusting(&new).get().await.status;
    eventually!("a good one again", by_name().await, |status| *status == 200);
}

#[tokio::test]
async fn clients_have_to_show_a_certificate_or_may() {
    let origin = Origin::start(Reply::ok("fine"));
    let server = Pair::of("servers", &["a.example"]);
    let (client, stranger) = (Pair::of("clients", &["ci.example"]), Pair::of("a stranger", &["ci.example"]));
    for (auth, without) in [("require", 0), ("request", 200)] {
        let ca = [format!("--tls-client-ca={}", client.path("ca.crt")), format!("--tls-client-auth={auth}")];
        let fanfare = broadcast(&origin, &[server.listener(), ca].concat()).await;
        let curl = || Curl::https("a.example", fanfare.address()).trusting(&server);
        let before = origin.requests().len();
        curl().get().await.expect(without);
        curl().showing(&stranger).get().await.expect(0);
        assert_eq!(origin.requests().len() - before, usize::from(without == 200), "{auth}");
        for version in ["--http1.1", "--http2"] {
            curl().showing(&client).with(&[version]).get().await.expect(200);
        }
    }
}

#[tokio::test]
async fn an_older_version_than_the_oldest_is_refused() {
    let (origin, pair) = (Origin::start(Reply::ok("fine")), Pair::of("authority", &["a.example"]));
    for (oldest, status) in [("1.2", 200), ("1.3", 0)] {
        let flags = [&pair.listener()[..], &[format!("--tls-min-version={oldest}")]].concat();
        let fanfare = broadcast(&origin, &flags).await;
        let curl = || Curl::https("a.example", fanfare.address()).trusting(&pair);
        let old = curl().with(&["--tls-max", "1.2"]).get().await.expect(status);
        assert!(status != 0 || old.error.contains("protocol version"), "{}", old.error);
        curl().get().await.expect(200);
    }
}

#[tokio::test]
async fn http_2_is_agreed_on_by_alpn_and_plain_http_is_told_to_use_tls() {
    let (origin, pair) = (Origin::start(Reply::ok("fine")), Pair::of("authority", &["a.example"]));
    let fanfare = broadcast(&origin, &pair.listener()).await;
    for (offered, spoken) in [("--http2", "2"), ("--http1.1", "1.1"), ("--no-alpn", "1.1")] {
        let got = Curl::https("a.example", fanfare.address()).trusting(&pair).with(&[offered]).get().await.expect(200);
        assert_eq!((got.version.as_str(), got.body.as_str()), (spoken, "fine"), "{offered}");
        let seen = origin.requests().pop().expect("it came");
        assert_eq!(seen.headers.get("x-forwarded-proto"), Some("https"));
    }
    let plain = client::get(fanfare.address(), "/x").await.complete().expect_status(400);
    assert!(plain.text().contains("https"), "{}", plain.text());
    assert_eq!(origin.requests().len(), 3);
    Curl::https("a.example", fanfare.address()).get().await.expect(0);
    let listener = fanfare.address();
    let metrics = async || client::get(fanfare.admin(), "/metrics").await.complete().text();
    for (result, count) in [("ok", 3), ("not_tls", 1), ("refused", 1), ("timeout", 0)] {
        let line = format!("fanfare_tls_handshakes_total{{listener=\"{listener}\",result=\"{result}\"}} {count}\n");
        eventually!("the handshakes", metrics().await, |text| text.contains(&line));
    }
    let without = broadcast(&origin, &[&pair.listener()[..], &["--no-http2".to_owned()]].concat()).await;
    let got = Curl::https("a.example", without.address()).trusting(&pair).with(&["--http2"]).get().await.expect(200);
    assert_eq!(got.version, "1.1");
}

#[tokio::test]
async fn a_file_says_the_same_and_a_reload_changes_it() {
    let origin = Origin::start(Reply::ok("fine"));
    let (one, two) = (Pair::of("one", &["a.example"]), Pair::of("two", &["a.example"]));
    let text = |tls: &str| {
        format!(
            "admin: {{listen: 127.0.0.1:0}}\nthreads: 2\nbroadcast:\n  - listen: 127.0.0.1:0\n    tls: {tls}\n    \
             routes: [{{to: {{endpoints: '{}'}}}}]\n",
            origin.address()
        )
    };
    let shows = |cert: &str, key: &str, more: &str| format!("{{certificates: [{{cert: {cert}, key: {key}}}]{more}}}");
    let tls = |pair: &Pair, more: &str| shows(&pair.path("tls.crt"), &pair.path("tls.key"), more);
    let file = File::new(&text(&tls(&one, "")));
    let fanfare = Fanfare::serve(["run".as_ref(), file.path.as_os_str()]).await;
    fanfare.wait_ready().await;
    let by = async |pair: &Pair| Curl::https("a.example", fanfare.address()).trusting(pair).get().await.status;
    assert_eq!((by(&one).await, by(&two).await), (200, 0));
    file.write(&text(&tls(&two, "")));
    fanfare.signal(Signal::HUP);
    eventually!("the other certificate", by(&two).await, |status| *status == 200);
    for (tls, told) in [
        (shows(&two.path("tls.crt"), &one.path("tls.key"), ""), "broadcast[0].tls.certificates[0].key: "),
        (shows("/nowhere", &one.path("tls.key"), ""), "broadcast[0].tls.certificates[0].cert: /nowhere: "),
        (tls(&two, ", client_ca: /nowhere"), "broadcast[0].tls.client_ca: /nowhere: it cannot be read"),
        (tls(&two, ", min_version: 1.1"), "broadcast[0].tls.min_version: \"1.1\""),
    ] {
        file.write(&text(&tls));
        fanfare.signal(Signal::HUP);
        let refused = |log: &str| log.lines().any(|line| line.contains("refused") && line.contains(told));
        fanfare.stderr.wait(told, refused).await;
        assert_eq!(by(&two).await, 200);
    }
    let more = format!(", client_ca: {}", one.path("ca.crt"));
    file.write(&text(&tls(&two, &more)));
    fanfare.signal(Signal::HUP);
    eventually!("a certificate to be demanded", by(&two).await, |status| *status == 0);
    Curl::https("a.example", fanfare.address()).trusting(&two).showing(&one).get().await.expect(200);
    // The same listener in clear text again.
    file.write(&text("null").replace("    tls: null\n", ""));
    fanfare.signal(Signal::HUP);
    let plain = async || client::get(fanfare.address(), "/x").await.complete().status;
    eventually!("no TLS", plain().await, |status| *status == 200);
}

#[tokio::test]
async fn what_clients_do_wrong_in_the_handshake_is_logged_only_at_level_debug() {
    let origin = Origin::start(Reply::ok("fine"));
    let fanfare = broadcast(&origin, &Pair::of("one", &["one.example"]).listener()).await;
    // A message that cannot be the first one, in a record of its own.
    let finished = [&[0x16, 3, 1, 0, 16, 20, 0, 0, 12][..], &[0; 12]].concat();
    let handshake = async || {
        let mut client = RawClient::connect(fanfare.address()).await;
        client.send(&finished).await;
        client.wait_end().await;
    };
    handshake().await;
    client::request(fanfare.admin(), "PUT", "/-/log-level", &[], b"debug").await.complete().expect_status(200);
    handshake().await;
    let said = "while expecting [ClientHello]";
    let log = fanfare.stderr.wait("the reason", |log| log.contains(said)).await;
    assert_eq!(log.matches(said).count(), 1, "{log}");
}
