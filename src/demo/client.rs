//! The demo's HTTP client: one request on a connection of its own, as curl would send it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Deserialize;

/// An answer, with its duration.
#[derive(Debug)]
pub(super) struct Answer {
    /// Its status.
    pub(super) status: StatusCode,
    /// Its body.
    pub(super) body: Bytes,
    /// From the request to the last byte of the answer.
    pub(super) after: Duration,
}

/// The broadcaster's report of one request, as far as the demo reads it.
#[derive(Debug, Deserialize)]
pub(super) struct OriginResults {
    /// The results by endpoint.
    pub(super) results: Vec<OriginResult>,
}

/// The broadcaster's report of one endpoint.
#[derive(Debug, Deserialize)]
pub(super) struct OriginResult {
    /// Its address.
    pub(super) endpoint: String,
    /// The status it answered with, if it did.
    pub(super) status: Option<u16>,
    /// The outcome.
    pub(super) outcome: String,
    /// How long it took, in milliseconds.
    pub(super) ms: f64,
}

/// The media type of the report, for the field `Accept`.
pub(super) const REPORT: &str = "application/vnd.broadcast+json";

/// The time limit of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// Sends one request and reads the whole answer.
pub(super) async fn send(
    to: SocketAddr,
    method: Method,
    target: &str,
    accept: &str,
    body: Bytes,
) -> anyhow::Result<Answer> {
    let start = Instant::now();
    let exchange = async {
        let stream = tokio::net::TcpStream::connect(to).await.with_context(|| format!("cannot connect to {to}"))?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", to.to_string())
            .header("accept", accept)
            .header("user-agent", "fanfare-demo")
            .body(Full::new(body))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        connection.abort();
        anyhow::Ok(Answer { status, body, after: start.elapsed() })
    };
    tokio::time::timeout(ANSWER_TIMEOUT, exchange).await.context("no answer in time")?
}
