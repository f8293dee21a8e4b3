//! Tokens of service accounts of a real API server, verified with keys that were fetched from it.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use access::{
    identity::Identity,
    service_accounts::{Refusal, Verifier, channel},
};
use controlplane::{
    client::connect,
    service_account_keys::{FetchTiming, KeySource},
};
use kubekit::cluster::{Cluster, shared};
use runtime::readiness::Readiness;
use testkit::eventually;
use tokio::task::JoinHandle;

const AUDIENCE: &str = "fanfare";

/// Short pauses, and no fetch that nobody asks for.
const TIMING: FetchTiming = FetchTiming {
    refresh: Duration::from_secs(3_600),
    min_requested: Duration::from_millis(20),
    max_requested: Duration::from_millis(200),
    answer: Duration::from_secs(10),
};

struct Running {
    verifier: Verifier,
    readiness: Readiness,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(kubeconfig: &Path) -> Self {
        let connection = connect(Some(kubeconfig)).await.expect("a valid kubeconfig");
        let ((publisher, keys), readiness) = (channel(), Readiness::new());
        let source = KeySource::new(connection.client, publisher, readiness.register("keys"), TIMING);
        Self { verifier: Verifier::new(AUDIENCE, keys), readiness, task: tokio::spawn(source.run()) }
    }

    async fn ready(&self) {
        let _ = eventually!("the first keys", self.readiness.check(), |ready| ready.is_ok());
    }

    fn verify(&self, token: &str) -> Result<Identity, Refusal> {
        self.verifier.verify(token, SystemTime::now())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn a_token_for_the_audience_names_its_service_account_and_no_other_token_does() {
    let cluster = shared().await;
    let namespace = cluster.namespace("callers").await;
    // Any service account may read the keys: RBAC has that from the start.
    let account = cluster.service_account(&namespace, "cms").await;
    let running = Running::start(account.kubeconfig_path()).await;
    running.ready().await;
    let cms = Identity::service_account(&namespace, "cms");
    let token = cluster.token(&namespace, "cms", AUDIENCE, 600).await;
    assert_eq!(running.verify(&token), Ok(cms.clone()));
    assert_eq!(running.verify(&token), Ok(cms), "from memory");
    let other = cluster.token(&namespace, "cms", "https://kubernetes.default.svc", 600).await;
    assert_eq!(running.verify(&other), Err(Refusal::Audience));
    let later = SystemTime::now() + Duration::from_secs(620);
    assert_eq!(running.verifier.verify(&token, later), Err(Refusal::Expired));
    let (signed, signature) = token.rsplit_once('.').expect("three parts");
    let forged = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    assert!(running.verify(&forged).is_err());
}

#[tokio::test]
async fn a_new_key_is_fetched_when_its_first_token_comes_and_an_old_one_goes_with_its_tokens() {
    let mut cluster = Cluster::start().await;
    let namespace = cluster.namespace("rotated").await;
    cluster.service_account(&namespace, "cms").await;
    let running = Running::start(&cluster.kubeconfig_path()).await;
    running.ready().await;
    let cms = Identity::service_account(&namespace, "cms");
    let first = cluster.token(&namespace, "cms", AUDIENCE, 3_600).await;
    assert_eq!(running.verify(&first), Ok(cms.clone()));

    cluster.rotate_signing_key(true).await;
    let second = cluster.token(&namespace, "cms", AUDIENCE, 3_600).await;
    assert_eq!(running.verify(&second), Err(Refusal::UnknownKey), "nothing of a request waits");
    let _ = eventually!("the new key", running.verify(&second), |verified| *verified == Ok(cms.clone()));
    assert_eq!(running.verify(&first), Ok(cms.clone()), "its key is still there");

    // The keys outlive the API server.
    cluster.kill_apiserver();
    assert_eq!(running.verify(&first), Ok(cms.clone()));
    let unknown = "eyJhbGciOiJFUzI1NiIsImtpZCI6InVua25vd24ifQ.e30.c2lnbmF0dXJl";
    assert_eq!(running.verify(unknown), Err(Refusal::UnknownKey));
    cluster.start_apiserver().await;
    assert_eq!(running.verify(&second), Ok(cms.clone()));

    cluster.rotate_signing_key(false).await;
    let third = cluster.token(&namespace, "cms", AUDIENCE, 3_600).await;
    let _ = eventually!("the newest key", running.verify(&third), |verified| *verified == Ok(cms.clone()));
    for gone in [&first, &second] {
        assert_eq!(running.verify(gone), Err(Refusal::UnknownKey), "a token of a key that is gone");
    }
}

#[tokio::test]
async fn without_the_right_to_read_keys_the_role_to_bind_is_named() {
    let cluster = Cluster::start().await;
    let account = cluster.service_account("default", "stranger").await;
    let binding = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {name: system:service-account-issuer-discovery}\n";
    cluster.delete_yaml(binding).await.expect("it is there");
    let running = Running::start(account.kubeconfig_path()).await;
    let _ = eventually!("the reason", running.readiness.check(), |ready| ready
        .as_ref()
        .is_err_and(|why| why.contains("system:service-account-issuer-discovery")));
    assert_eq!(running.verify("a.b.c"), Err(Refusal::NoKeys));
}
