//! The client of the admin listener: one request on a connection of its own.

use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::cli::Status;

/// An admin listener.
pub(super) struct Admin {
    address: String,
    /// The field `Authorization`, if a token is given.
    authorization: Option<header::HeaderValue>,
}

/// An answer of the listener.
pub(super) struct AdminAnswer {
    status: StatusCode,
    pub(super) text: String,
}

/// The time limit of an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size of an answer. Metrics of ten thousand endpoints need a tenth of it.
const MAX_ANSWER: usize = 64 << 20;

// === impl Admin ===

impl Admin {
    /// The listener, with its address and an optional token.
    ///
    /// # Errors
    /// The token cannot be read.
    pub(super) fn new(arguments: &Status) -> anyhow::Result<Self> {
        let authorization = match &arguments.token_file {
            Some(path) => {
                let token = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                let field = format!("Bearer {}", token.trim()).parse::<header::HeaderValue>();
                let mut field = field.ok().with_context(|| format!("{} does not contain a token", path.display()))?;
                field.set_sensitive(true);
                Some(field)
            }
            None => None,
        };
        Ok(Self { address: arguments.admin.clone(), authorization })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Requests a path.
    ///
    /// # Errors
    /// There is no answer, or the server is not fanfare.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<AdminAnswer> {
        let answer = tokio::time::timeout(TIMEOUT, self.exchange(path)).await;
        answer.with_context(|| format!("{} does not answer in time", self.address))?
    }

    async fn exchange(&self, path: &str) -> anyhow::Result<AdminAnswer> {
        let address = &self.address;
        let nobody = || {
            format!(
                "no process listens at {address}. If fanfare runs elsewhere, name its admin listener (--metrics-interface) with --admin"
            )
        };
        let stream = TcpStream::connect(address.as_str()).await.with_context(nobody)?;
        let strange = || {
            format!(
                "{address} answers, but not as an admin listener without TLS: it may use TLS, or be another program"
            )
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.with_context(strange)?;
        let connection = tokio::spawn(connection);
        let mut request = Request::get(path).header(header::HOST, address.as_str()).body(Full::<Bytes>::default())?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        let response = sender.send_request(request).await.with_context(strange)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer of {address} is cut: {error}"))?.to_bytes();
        connection.abort();
        if status == StatusCode::UNAUTHORIZED {
            bail!("{address} wants a token: name a file that has it with --token-file");
        }
        Ok(AdminAnswer { status, text: String::from_utf8_lossy(&body).into_owned() })
    }
}

// === impl AdminAnswer ===

impl AdminAnswer {
    pub(super) fn is_ok(&self) -> bool {
        self.status.is_success()
    }

    /// The text of a path that every admin listener has.
    ///
    /// # Errors
    /// The server is not fanfare, or refuses the request.
    pub(super) fn text_of(self, path: &str) -> anyhow::Result<String> {
        if self.is_ok() { Ok(self.text) } else { bail!("no admin listener of fanfare: {path} is {}", self.status) }
    }
}
