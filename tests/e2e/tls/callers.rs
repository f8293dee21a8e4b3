//! Rules that name certificates, over both versions of HTTP, and the names of callers in log and metrics.

use testkit::{
    client,
    origin::{Origin, Reply},
};

use super::bed::{Curl, Pair, strs};
use crate::process::{Fanfare, run};

#[tokio::test]
async fn a_name_in_the_certificate_is_what_rules_and_people_call_the_caller_by() {
    let origin = Origin::start(Reply::ok("fine"));
    let server = Pair::of("servers", &["a.example"]);
    let cms = Pair::of("clients", &["ci.cms.svc", "spiffe://cluster.local/ns/cms/sa/ci"]);
    let with = |names: &[&str]| {
        let issued = cms.authority.issue(names);
        let secret = testkit::pki::SecretDir::of(&issued, &cms.authority);
        Pair { authority: testkit::pki::Authority::new("unused"), secret, issued }
    };
    let shop = with(&["ci.shop.svc"]);
    let deeper = with(&["x.ci.cms.svc"]);
    let star = with(&["*.cms.svc"]);
    let spiffe = with(&["spiffe://cluster.local/ns/cms/sa/other"]);
    let flags = [
        &server.listener()[..],
        &[
            format!("--tls-client-ca={}", cms.path("ca.crt")),
            "--tls-client-auth=request".to_owned(),
            "--allow=GET /* by san:*.cms.svc,san:spiffe://cluster.local/ns/cms/*".to_owned(),
            "--access-log=json".to_owned(),
        ],
    ]
    .concat();
    let fanfare = Fanfare::broadcast(&[origin.address()], &strs(&flags)).await;
    fanfare.wait_ready().await;
    let curl = |version: &str| Curl::https("a.example", fanfare.address()).trusting(&server).with(&[version]);
    for version in ["--http1.1", "--http2"] {
        curl(version).showing(&cms).get().await.expect(200);
        curl(version).showing(&spiffe).get().await.expect(200);
        for other in [&shop, &deeper] {
            curl(version).showing(other).get().await.expect(403);
        }
        // A wildcard certificate identifies nobody, so the caller has no name.
        curl(version).showing(&star).get().await.expect(401);
        let got = curl(version).with(&["-D", "-"]).get().await.expect(401);
        assert!(got.body.to_ascii_lowercase().contains("www-authenticate: bearer"), "{}", got.body);
    }
    assert_eq!(origin.requests().len(), 4);
    let entries = |log: &str| log.lines().filter(|line| line.contains("\"status\":")).count();
    let log = fanfare.stdout.wait("every entry", |log| entries(log) == 12).await;
    let metrics = client::get(fanfare.admin(), "/metrics").await.complete().text();
    for (identity, result, count) in [
        ("san:ci.cms.svc", "allowed", 2),
        ("san:spiffe://cluster.local/ns/cms/sa/other", "allowed", 2),
        ("san:ci.shop.svc", "forbidden", 2),
        ("san:x.ci.cms.svc", "forbidden", 2),
        ("-", "unauthorized", 4),
    ] {
        let line = format!("fanfare_identity_requests_total{{identity=\"{identity}\",result=\"{result}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
        let logged = log.matches(&format!("\"identity\":\"{identity}\"")).count();
        assert_eq!(logged, if identity == "-" { 0 } else { count }, "{identity}: {log}");
    }
}

#[tokio::test]
async fn a_rule_for_certificates_needs_who_vouches_for_them() {
    let server = Pair::of("servers", &["a.example"]);
    let allow = "--allow=GET /* by san:*.cms.svc".to_owned();
    for more in [Vec::new(), server.listener().to_vec()] {
        let fixed = ["broadcast", "-i=127.0.0.1:0", "-m=127.0.0.1:0", "--endpoints=192.0.2.1:80"].map(str::to_owned);
        let ended = run([&fixed[..], &more, std::slice::from_ref(&allow)].concat()).await;
        assert_eq!(ended.code, Some(64), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("no caller can prove san:*.cms.svc: there is no tls.client_ca"),
            "{}",
            ended.stderr
        );
    }
}
