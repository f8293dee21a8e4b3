//! One request for a list: bounded in time, bytes and redirections, and conditional once there is a list.

use std::time::Duration;

use reqwest::header::{ACCEPT, CONTENT_ENCODING, ETAG, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED};
use reqwest::{Client, Response, StatusCode, redirect};
use runtime::redact;

use super::ListUrl;
use crate::source::groups::{self, Format};
use crate::source::list::ListEntry;

/// The longest list, in bytes: the limit for files, too.
pub(super) const MAX_BYTES: usize = 16 << 20;

/// The time limit of a connection attempt: DNS, TCP and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The time limit of a request from its start to the end of its answer, including redirections.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(10);

/// The most redirections.
const MAX_REDIRECTS: usize = 5;

/// The user agent.
const AGENT: &str = concat!("fanfare/", env!("CARGO_PKG_VERSION"));

/// Fetches one list.
pub(super) struct Fetcher {
    url: ListUrl,
    connect_timeout: Duration,
    total_timeout: Duration,
    /// Made for the first request, and again after a failure, because the trusted certificates may have changed.
    client: Option<Client>,
    validators: Validators,
}

/// The validators of the last good list, for conditional requests (RFC 9110, section 13.1).
#[derive(Default)]
struct Validators {
    entity_tag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
}

/// A good answer.
#[derive(Debug)]
pub(super) enum Fetched {
    /// The list.
    List(Vec<ListEntry>),
    /// The last good list is unchanged.
    Unchanged,
}

/// Why there is no list. No credentials are in the text.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// There is no answer, or an error status.
    #[error("{0}")]
    Failed(String),
    /// The answer is no list of endpoints.
    #[error("the answer is not a list of endpoints: {0}")]
    Invalid(String),
}

// === impl Fetcher ===

impl Fetcher {
    pub(super) fn new(url: ListUrl) -> Self {
        Self {
            url,
            connect_timeout: CONNECT_TIMEOUT,
            total_timeout: TOTAL_TIMEOUT,
            client: None,
            validators: Validators::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn with_timeouts(url: ListUrl, connect: Duration, total: Duration) -> Self {
        Self { connect_timeout: connect, total_timeout: total, ..Self::new(url) }
    }

    /// Sends one request.
    pub(super) async fn fetch(&mut self) -> Result<Fetched, FetchError> {
        let fetched = self.request().await;
        if fetched.is_err() {
            self.client = None;
        }
        fetched
    }

    async fn request(&mut self) -> Result<Fetched, FetchError> {
        let client = match self.client.take() {
            Some(client) => client,
            None => self.make_client()?,
        };
        let client = self.client.insert(client);
        let mut request = client.get(self.url.url().clone()).header(ACCEPT, "application/json");
        let Validators { entity_tag, last_modified } = &self.validators;
        if let Some(tag) = entity_tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        if let Some(time) = last_modified {
            request = request.header(IF_MODIFIED_SINCE, time);
        }
        let conditional = entity_tag.is_some() || last_modified.is_some();
        let sent = request.send().await;
        let mut answer = sent.map_err(|error| self.failed(error))?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED if conditional => return Ok(Fetched::Unchanged),
            status => return Err(FetchError::Failed(format!("the server answers {status}"))),
        }
        let coding = answer.headers().get(CONTENT_ENCODING);
        if let Some(coding) = coding.filter(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            let why = format!("it is encoded as {coding:?}, which was not requested");
            return Err(FetchError::Invalid(why));
        }
        let field = |name| answer.headers().get(name).cloned();
        let validators = Validators { entity_tag: field(ETAG), last_modified: field(LAST_MODIFIED) };
        let body = self.read(&mut answer).await?;
        let list = groups::parse(Format::Json, &body).map_err(|error| FetchError::Invalid(error.to_string()))?;
        self.validators = validators;
        Ok(Fetched::List(list))
    }

    fn make_client(&self) -> Result<Client, FetchError> {
        // The library uses the default crypto provider of the process. A second installation of the same provider fails, which is
        // fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            Client::builder()
                .user_agent(AGENT)
                .connect_timeout(self.connect_timeout)
                .timeout(self.total_timeout)
                .redirect(redirect::Policy::custom(follow))
                // The server has usually closed a connection before the next request.
                .pool_max_idle_per_host(0)
        };
        let client = match builder().build() {
            // Without system certificates, requests without TLS still work.
            Err(_) if !self.url.is_protected() => builder().tls_certs_only([]).build(),
            built => built,
        };
        client.map_err(|error| self.failed(error))
    }

    async fn read(&self, answer: &mut Response) -> Result<Vec<u8>, FetchError> {
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| self.failed(error))? {
            if body.len() + piece.len() > MAX_BYTES {
                return Err(FetchError::Invalid(format!("it has more than the {MAX_BYTES} bytes allowed")));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn failed(&self, error: reqwest::Error) -> FetchError {
        match (error.is_timeout(), error.is_connect()) {
            (true, true) => FetchError::Failed(format!("no connection within {:?}", self.connect_timeout)),
            (true, false) => FetchError::Failed(format!("no complete answer within {:?}", self.total_timeout)),
            // The URL is part of the message already, and may contain credentials.
            (false, _) => FetchError::Failed(redact::urls(&crate::watch::chain(&error.without_url()))),
        }
    }
}

/// Follows a bounded number of redirections, and none from https to http.
fn follow(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let was_protected = attempt.previous().iter().any(|url| url.scheme() == "https");
    if attempt.previous().len() > MAX_REDIRECTS {
        attempt.error(format!("more than {MAX_REDIRECTS} redirections"))
    } else if was_protected && attempt.url().scheme() != "https" {
        attempt.error("it redirects from https to a URL without TLS")
    } else {
        attempt.follow()
    }
}
