//! Callers with tokens of service accounts, while the API server replaces the signing key and while it is unavailable.

use kubekit::cluster::Cluster;
use testkit::{
    client::{self, request},
    eventually,
    origin::{Origin, Reply},
};

use crate::process::Fanfare;

const AUDIENCE: &str = "fanfare";

#[tokio::test]
async fn tokens_are_taken_by_the_keys_that_the_api_server_has_and_while_it_is_away_by_the_last_ones() {
    let mut cluster = Cluster::start().await;
    let namespace = cluster.namespace("callers").await;
    for name in ["cms", "other"] {
        cluster.service_account(&namespace, name).await;
    }
    // The administrator's credentials, because tokens of service accounts are invalidated in this test.
    let kubeconfig = cluster.kubeconfig_path();
    let origin = Origin::start(Reply::ok("purged"));
    let rule = format!("PURGE /* by sa:{namespace}/cms");
    let flags = ["--auth-service-accounts", AUDIENCE, "--allow", &rule, "-k", kubeconfig.to_str().expect("ASCII")];
    let fanfare = Fanfare::broadcast(&[origin.address()], &flags).await;
    fanfare.wait_ready().await;
    let ask = async |token: &str| {
        let value = format!("Bearer {token}");
        request(fanfare.address(), "PURGE", "/x", &[("Authorization", &value)], b"").await.complete().status
    };

    let first = cluster.token(&namespace, "cms", AUDIENCE, 3_600).await;
    assert_eq!(ask(&first).await, 200);
    let stranger = cluster.token(&namespace, "other", AUDIENCE, 3_600).await;
    assert_eq!(ask(&stranger).await, 403);

    // A new key beside the old one: tokens of both are valid, the new ones once the key has been fetched.
    cluster.rotate_signing_key(true).await;
    let second = cluster.token(&namespace, "cms", AUDIENCE, 3_600).await;
    eventually!("the new key", ask(&second).await, |status| *status == 200);
    assert_eq!(ask(&first).await, 200);

    // Without an API server the last keys apply, also for new callers.
    let unseen = cluster.token(&namespace, "cms", AUDIENCE, 3_000).await;
    let unseen_stranger = cluster.token(&namespace, "other", AUDIENCE, 3_000).await;
    cluster.kill_apiserver();
    for token in [&first, &second, &unseen] {
        assert_eq!(ask(token).await, 200);
    }
    assert_eq!(ask(&unseen_stranger).await, 403);
    let of_no_key = "eyJhbGciOiJFUzI1NiIsImtpZCI6InVua25vd24ifQ.e30.c2lnbmF0dXJl";
    assert_eq!(ask(of_no_key).await, 401, "its key cannot be fetched");
    assert_eq!(ask(&second).await, 200, "a fetch that failed takes no key away");
    assert_eq!(client::get(fanfare.admin(), "/-/ready").await.complete().status, 200);

    // The old keys are removed: once that is known, their tokens are refused, and new ones accepted.
    cluster.start_apiserver().await;
    cluster.rotate_signing_key(false).await;
    let third = cluster.token(&namespace, "cms", AUDIENCE, 3_600).await;
    eventually!("the newest key", ask(&third).await, |status| *status == 200);
    let before = origin.requests().len();
    for gone in [&first, &second, &unseen, &stranger] {
        assert_eq!(ask(gone).await, 401, "a token of a key that is gone");
    }
    assert_eq!(origin.requests().len(), before);
    for seen in origin.requests() {
        assert_eq!((&*seen.method, seen.headers.get("authorization")), ("PURGE", None));
    }
    for token in [&first, &second, &third, &unseen] {
        let (signed, _signature) = token.split_at(token.len() / 2);
        assert!(!fanfare.stderr.text().contains(signed) && !fanfare.stdout.text().contains(signed));
    }
}
