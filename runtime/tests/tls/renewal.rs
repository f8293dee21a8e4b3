//! Files that change: taken as a whole or not at all, without a failed handshake, and forgotten with what they vouched for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runtime::tls::{ServerSettings, ServerTls};
use testkit::eventually;
use testkit::pki::{Authority, SecretDir, Wanted};

use super::bed::{Listener, ask, settings};

/// The value of a metric of a file.
fn value(name: &str, file: &std::path::Path, more: &str) -> Option<f64> {
    let text = runtime::metrics::install().expect("installs").render();
    let series = format!("{name}{{file=\"{}\"{more}}} ", file.display());
    text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok())
}

fn reloads(file: &std::path::Path, result: &str) -> Option<f64> {
    value("fanfare_tls_reloads_total", file, &format!(",result=\"{result}\""))
}

fn expiry(file: &std::path::Path) -> Option<f64> {
    value("fanfare_tls_certificate_expiry_timestamp_seconds", file, "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_renewed_under_load_without_a_failed_handshake() {
    let authority = Authority::new("authority");
    let secret = SecretDir::of(&authority.issue(&["a.example"]), &authority);
    let mut listener = Listener::start(settings(&secret)).await;
    let (address, over) = (listener.address, Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (config, over) = (authority.client(None, &[]), over.clone());
            tokio::spawn(async move {
                let mut asked = 0;
                while !over.load(Ordering::Relaxed) {
                    // Without resumption, so that each is a full handshake.
                    let config = Arc::new(config.clone());
                    ask(&config, "a.example", address).await.expect("it is taken");
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    let counting = tokio::spawn(async move {
        let mut taken = 0;
        while let Some(client) = listener.taken.recv().await {
            client.expect("it is taken");
            taken += 1;
        }
        taken
    });
    let config = Arc::new(authority.client(None, &[]));
    for _ in 0..3 {
        let next = authority.issue(&["a.example", "b.example"]);
        secret.renew(&next, &authority);
        let fresh = || Arc::new(authority.client(None, &[]));
        let seen = async || ask(&fresh(), "a.example", address).await.expect("it is taken").certificate;
        let first = next.chain.clone();
        eventually!("the new certificate", seen().await, |der| is(der, &first));
    }
    over.store(true, Ordering::Relaxed);
    let mut asked = 0;
    for client in clients {
        asked += client.await.expect("no handshake has failed");
    }
    assert!(asked > 20, "{asked} handshakes");
    drop(config);
    assert!(!counting.is_finished(), "the listener has failed");
    let reloaded = reloads(&secret.path("tls.crt"), "ok");
    assert_eq!(reloaded, Some(3.0));
}

fn is(der: &rustls::pki_types::CertificateDer<'_>, pem: &str) -> bool {
    use rustls::pki_types::pem::PemObject as _;
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).is_ok_and(|other| other == *der)
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_ignored_and_reported_once() {
    let authority = Authority::new("authority");
    let (one, two) = (authority.issue(&["a.example"]), authority.issue(&["a.example"]));
    let secret = SecretDir::of(&one, &authority);
    let listener = Listener::start(settings(&secret)).await;
    let (cert, key) = (secret.path("tls.crt"), secret.path("tls.key"));
    assert_eq!((reloads(&key, "failed"), reloads(&cert, "ok")), (Some(0.0), Some(0.0)));
    secret.swap(&[("tls.crt", &two.chain), ("tls.key", &one.key), ("ca.crt", "")]);
    eventually!("the fault to be counted", reloads(&key, "failed"), |count| *count == Some(1.0));
    let seen = async || {
        let config = Arc::new(authority.client(None, &[]));
        ask(&config, "a.example", listener.address).await.expect("it is taken").certificate
    };
    assert!(is(&seen().await, &one.chain), "the old one stays in use");
    secret.renew(&two, &authority);
    eventually!("the new certificate", seen().await, |der| is(der, &two.chain));
    assert_eq!(reloads(&key, "failed"), Some(1.0), "told once");
    std::fs::remove_file(&cert).expect("removes");
    eventually!("the loss to be counted", reloads(&cert, "failed"), |count| *count == Some(1.0));
    assert!(is(&seen().await, &two.chain), "the old one stays in use");
}

#[tokio::test]
async fn the_expiry_of_certificates_in_use_is_shown_and_removed_with_them() {
    let authority = Authority::new("authority");
    let secret =
        SecretDir::of(&authority.sign(&Wanted::names(&["a.example"]).valid_for(Duration::from_secs(3600))), &authority);
    let file = secret.path("tls.crt");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let tls = ServerTls::load(settings(&secret)).expect("it can be loaded");
    let shown = expiry(&file).expect("it is shown");
    assert!((3500.0..3700.0).contains(&(shown - now)), "{shown}");
    // One that has expired is shown as well, and served: nobody knows better what to do than whoever looks at it.
    secret.renew(&authority.sign(&Wanted::names(&["a.example"]).expired(Duration::from_secs(3600))), &authority);
    eventually!("the new expiry", expiry(&file), |shown| shown.is_some_and(|shown| shown < now));
    drop(tls);
    eventually!("nothing", expiry(&file), Option::is_none);
}

#[tokio::test]
async fn a_session_of_a_client_whose_authority_is_gone_is_not_resumed() {
    let (authority, old, new) = (Authority::new("servers"), Authority::new("old"), Authority::new("new"));
    let certificate = authority.issue(&["a.example"]);
    let secret = SecretDir::of(&certificate, &old);
    let demanding = ServerSettings { client_ca: Some(secret.path("ca.crt")), ..settings(&secret) };
    let mut listener = Listener::start(demanding).await;
    let client = Arc::new(authority.client(Some(&old.issue(&["ci.example"])), &[]));
    assert!(!ask(&client, "a.example", listener.address).await.expect("it is taken").resumed);
    assert!(ask(&client, "a.example", listener.address).await.expect("it is taken").resumed);
    for _ in 0..2 {
        let known = listener.next().await.expect("it is taken").certificate.expect("it has one");
        assert_eq!(known.dns, ["ci.example"], "also of a session that is resumed");
    }
    // A new certificate of the server alone changes nothing for sessions.
    secret.renew(&authority.issue(&["a.example"]), &old);
    eventually!("the reload", reloads(&secret.path("tls.crt"), "ok"), |count| *count == Some(1.0));
    assert!(ask(&client, "a.example", listener.address).await.expect("it is taken").resumed);
    secret.renew(&certificate, &new);
    eventually!("the reload", reloads(&secret.path("ca.crt"), "ok"), |count| *count == Some(1.0));
    ask(&client, "a.example", listener.address).await.expect_err("nobody vouches for it any more");
    let other = Arc::new(authority.client(Some(&new.issue(&["new.example"])), &[]));
    ask(&other, "a.example", listener.address).await.expect("it is taken");
}
