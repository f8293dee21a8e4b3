//! Fetches the keys that sign the tokens of service accounts from the API server: at the start, every few minutes, and at a bounded
//! rate when a request has a token of an unknown key. While they cannot be fetched, the last ones stay in use.

use std::time::Duration;

use access::{
    metrics::{KEY_AGE, KEY_FETCHES, key_fetches_from_zero},
    service_accounts::{InvalidKeys, KeySet, Publisher},
};
use hyper::Request;
use kube::Client;
use runtime::{backoff::Backoff, readiness::Gate};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};
use tracing::{info, warn};

/// The path of the document that names the issuer, at every API server.
const CONFIGURATION: &str = "/.well-known/openid-configuration";

/// The path of the keys, at every API server. The URL in the configuration is for external clients, and may lead anywhere.
const KEYS: &str = "/openid/v1/jwks";

/// Time-outs and pauses between fetches.
#[derive(Clone, Copy, Debug)]
pub struct FetchTiming {
    /// Interval without requests for a fetch.
    pub refresh: Duration,
    /// Shortest interval with requests for a fetch. It grows up to the next one while fetches bring no new keys, so that forged
    /// tokens cause no load.
    pub min_requested: Duration,
    /// Longest interval with requests for a fetch.
    pub max_requested: Duration,
    /// Time limit of an answer.
    pub answer: Duration,
}

/// Keeps the keys up to date.
pub struct KeySource {
    client: Client,
    publisher: Publisher,
    gate: Gate,
    timing: FetchTiming,
}

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
enum KeyFetchError {
    #[error("{path}: {error}{}", hint(error))]
    Request { path: &'static str, error: kube::Error },
    #[error("{0}: no answer in time")]
    Late(&'static str),
    #[error("{KEYS}: {0}")]
    Invalid(#[from] InvalidKeys),
}

impl Default for FetchTiming {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(300),
            min_requested: Duration::from_secs(1),
            max_requested: Duration::from_secs(15),
            answer: Duration::from_secs(10),
        }
    }
}

// === impl KeySource ===

impl KeySource {
    /// Fetches with this client; the gate opens with the first keys and stays open.
    #[must_use]
    pub fn new(client: Client, publisher: Publisher, gate: Gate, timing: FetchTiming) -> Self {
        Self { client, publisher, gate, timing }
    }

    /// Keeps the keys current for ever.
    pub async fn run(self) {
        key_fetches_from_zero();
        let fetched = tokio::sync::watch::Sender::new(Instant::now());
        tokio::select! {
            () = self.keep(&fetched) => {}
            () = report_age(fetched.subscribe()) => {}
        }
    }

    async fn keep(&self, fetched: &tokio::sync::watch::Sender<Instant>) {
        let backoff =
            || Backoff::new(self.timing.min_requested, 2.0, self.timing.max_requested.max(self.timing.min_requested));
        let (mut failing, mut in_vain) = (backoff(), backoff());
        let mut known: Option<KeySet> = None;
        let mut logged = None;
        loop {
            let began = Instant::now();
            match self.fetch().await {
                Ok(keys) => {
                    ::metrics::counter!(KEY_FETCHES, "result" => "ok").increment(1);
                    fetched.send_replace(Instant::now());
                    failing.reset();
                    if known.as_ref() != Some(&keys) {
                        in_vain.reset();
                        info!(issuer = keys.issuer(), keys = keys.ids().count(), "keys of service accounts fetched");
                        self.publisher.publish(keys.clone());
                        self.gate.set_ready();
                        known = Some(keys);
                    } else if logged.is_some() {
                        info!("keys of service accounts can be fetched again");
                    }
                    logged = None;
                    self.until_due(began, in_vain.next_delay()).await;
                }
                Err(error) => {
                    ::metrics::counter!(KEY_FETCHES, "result" => "failed").increment(1);
                    self.log_once(&error, &mut logged, known.is_some());
                    sleep(failing.next_delay()).await;
                }
            }
        }
    }

    /// Waits until a fetch is due, or is requested and the last one is long enough ago.
    async fn until_due(&self, began: Instant, pause: Duration) {
        let asked = async {
            self.publisher.wanted().await;
            sleep_until(began + pause).await;
        };
        tokio::select! {
            () = asked => {}
            () = sleep_until(began + self.timing.refresh) => {}
        }
    }

    async fn fetch(&self) -> Result<KeySet, KeyFetchError> {
        let configuration = self.get(CONFIGURATION).await?;
        let keys = self.get(KEYS).await?;
        Ok(KeySet::parse(configuration.as_bytes(), keys.as_bytes())?)
    }

    async fn get(&self, path: &'static str) -> Result<String, KeyFetchError> {
        let request = Request::get(path).body(Vec::new()).expect("the paths are valid");
        match timeout(self.timing.answer, self.client.request_text(request)).await {
            Ok(answer) => answer.map_err(|error| KeyFetchError::Request { path, error }),
            Err(_) => Err(KeyFetchError::Late(path)),
        }
    }

    /// Logs an error, once.
    fn log_once(&self, error: &KeyFetchError, logged: &mut Option<String>, has_keys: bool) {
        let why = error.to_string();
        if !has_keys {
            self.gate.set_not_ready(format!("the API server's keys cannot be fetched: {why}"));
        }
        if logged.as_ref() != Some(&why) {
            let meanwhile = if has_keys { "the last ones stay in use" } else { "no service account is accepted" };
            warn!("cannot fetch the keys that sign tokens of service accounts, {meanwhile}: {why}");
            *logged = Some(why);
        }
    }
}

/// Reports the age of the keys for ever.
async fn report_age(fetched: tokio::sync::watch::Receiver<Instant>) {
    let mut ticks = interval(Duration::from_secs(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let age = fetched.borrow().elapsed();
        ::metrics::gauge!(KEY_AGE).set(age.as_secs_f64());
    }
}

fn hint(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            " (bind the ClusterRole system:service-account-issuer-discovery to this process's service account)"
        }
        _ => "",
    }
}
