//! `fanfare mirror coredns`: a real CoreDNS with its output answers for mirrored services under their own names.

use kubekit::coredns::{CoreDns, DnsAnswer};
use serde_json::json;

use super::bed::{Bed, endpoint};
use crate::process::Fanfare;

/// A name that is too long with prefix and namespace.
const LONG: &str = "a-service-with-a-name-that-is-as-long-as-names-can-be-in-dns-63";

/// An endpoint of a headless service, which has a name.
fn named(address: &str, hostname: &str) -> serde_json::Value {
    json!({"addresses": [address], "hostname": hostname, "conditions": {"ready": true}})
}

#[tokio::test]
async fn a_real_coredns_answers_for_mirrored_services_under_their_own_names() {
    let bed = Bed::start().await;
    for service in ["web", LONG] {
        bed.service(service, json!({})).await;
        bed.slice(service, "IPv4", &[endpoint("192.0.2.1")]).await;
    }
    bed.service("db", json!({"clusterIP": "None"})).await;
    bed.slice("db", "IPv4", &[named("192.0.2.11", "db-0"), named("192.0.2.12", "db-1")]).await;
    bed.slice("db", "IPv6", &[named("2001:db8::11", "db-0")]).await;
    let mirror = bed.mirror(&[bed.what(), bed.with_all_rights()], &[]);
    let web = bed.until_mirrored("web", &["192.0.2.1"]).await;
    bed.until_mirrored("db", &["192.0.2.11", "192.0.2.12", "2001:db8::11"]).await;
    let web = web["spec"]["clusterIP"].as_str().expect("it has an address");

    let flags = [bed.what(), bed.with_all_rights()].concat();
    let printed =
        Fanfare::start(["mirror", "coredns"].into_iter().chain(flags.iter().map(String::as_str))).finish().await;
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let rule = printed.stdout.lines().find(|line| line.contains(&format!("name regex ^((?:[^.]+\\.)*){LONG}\\.")));
    let hashed = rule.and_then(|rule| rule.rsplit_once("{1}")?.1.split_once('.')).expect("the long name has a rule").0;
    let long = testkit::eventually!("the long name's mirror", bed.here(hashed).await, |mirror| mirror.is_some());
    let long = long.expect("so")["spec"]["clusterIP"].as_str().expect("it has an address").to_owned();

    let dns = CoreDns::start(&printed.stdout, &bed.local.kubeconfig_path()).await;
    let domain = format!("{}.svc.cluster.west.", bed.there);
    let ask = async |name: &str, kind: &str| dns.ask(&format!("{name}.{domain}"), kind).await;
    let answer = |lines: &[(&str, &str)], additional: &[(&str, &str)]| {
        let full =
            |lines: &[(&str, &str)]| lines.iter().map(|(name, rest)| format!("{name}.{domain} {rest}")).collect();
        DnsAnswer { code: "NoError".into(), answers: full(lines), additional: full(additional) }
    };
    let srv = |target: &str, weight: u8, port: u16| format!("SRV 0 {weight} {port} {target}.{domain}");

    // The address of the service.
    assert_eq!(ask("web", "A").await, answer(&[("web", &format!("A {web}"))], &[]));
    assert_eq!(ask(LONG, "A").await, answer(&[(LONG, &format!("A {long}"))], &[]));
    // Its port and target, with the remote name again.
    let found = ask("_http._tcp.web", "SRV").await;
    let expected = answer(&[("_http._tcp.web", &srv("web", 100, 80))], &[("web", &format!("A {web}"))]);
    assert_eq!(found, expected);
    let found = ask(&format!("_http._tcp.{LONG}"), "SRV").await;
    let expected = answer(&[(&format!("_http._tcp.{LONG}"), &srv(LONG, 100, 80))], &[(LONG, &format!("A {long}"))]);
    assert_eq!(found, expected);
    // Endpoints of a headless service, of both families, each by its own name.
    assert_eq!(ask("db", "A").await, answer(&[("db", "A 192.0.2.11"), ("db", "A 192.0.2.12")], &[]));
    assert_eq!(ask("db", "AAAA").await, answer(&[("db", "AAAA 2001:db8::11")], &[]));
    assert_eq!(ask("db-1.db", "A").await, answer(&[("db-1.db", "A 192.0.2.12")], &[]));
    assert_eq!(ask("db-0.db", "AAAA").await, answer(&[("db-0.db", "AAAA 2001:db8::11")], &[]));
    let found = ask("_http._tcp.db", "SRV").await;
    let targets: Vec<_> = found.answers.iter().filter_map(|line| line.rsplit(' ').next()).collect();
    assert!(
        targets.contains(&&*format!("db-0.db.{domain}")) && targets.contains(&&*format!("db-1.db.{domain}")),
        "{found:?}"
    );
    assert!(found.additional.contains(&format!("db-1.db.{domain} A 192.0.2.12")), "{found:?}");
    // A service that does not exist has no record.
    assert_eq!(ask("nothing", "A").await.code, "NXDomain");
    drop(mirror);
}
