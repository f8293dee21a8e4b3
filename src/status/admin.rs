//! The client of the admin listener: one request on a connection of its own, in clear or by TLS.

use std::time::Duration;

use anyhow::{Context as _, bail};
use axum::body::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use runtime::tls::{self, ClientSettings, ClientTls, Protocol, Roots, Stream, Target, Turns};
use rustls::pki_types::ServerName;
use tokio::{net::TcpStream, time::Instant};

use crate::{cli::Status, config::single_token};

/// An admin listener.
pub(super) struct Admin {
    address: String,
    tls: Option<Target>,
    /// The field `Authorization`, if a token is given.
    authorization: Option<header::HeaderValue>,
}

/// The time limit of an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The maximum size of an answer. A thousand endpoints, and as many rows of everything else, need a tenth of it.
const MAX_ANSWER: usize = 16 << 20;

// === impl Admin ===

impl Admin {
    /// The listener, with its address, the authorities for its certificate and an optional token.
    ///
    /// # Errors
    /// The authorities or the token cannot be read.
    pub(super) fn new(arguments: &Status) -> anyhow::Result<Self> {
        let authorization = match &arguments.token_file {
            Some(path) => {
                let token = single_token(path).map_err(anyhow::Error::msg)?;
                let field = format!("Bearer {token}").parse::<header::HeaderValue>().ok();
                let mut field = field
                    .with_context(|| format!("the token in {} has a character that no token has", path.display()))?;
                field.set_sensitive(true);
                Some(field)
            }
            None => None,
        };
        let tls = arguments.admin.is_tls.then(|| target(arguments)).transpose()?;
        Ok(Self { address: arguments.admin.to_string(), tls, authorization })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Requests a path that every admin listener has.
    ///
    /// # Errors
    /// There is no answer, or the server is not fanfare.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<String> {
        let answer = tokio::time::timeout(TIMEOUT, self.exchange(path)).await;
        answer.with_context(|| format!("{} does not answer in time", self.address))?
    }

    async fn exchange(&self, path: &str) -> anyhow::Result<String> {
        let address = &self.address;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(self.connect().await?)).await.with_context(|| self.strange())?;
        let connection = tokio::spawn(connection);
        let mut request = Request::get(path).header(header::HOST, address.as_str()).body(Full::<Bytes>::default())?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        let response = sender.send_request(request).await.with_context(|| self.strange())?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("the answer of {address} is cut: {error}"))?.to_bytes();
        connection.abort();
        match status {
            StatusCode::UNAUTHORIZED => {
                bail!("{address} requires a token: name a file with it by --token-file")
            }
            // What a listener with TLS says to those who do not speak it.
            StatusCode::BAD_REQUEST if self.tls.is_none() => bail!(self.strange()),
            status if !status.is_success() => bail!("no admin listener of fanfare: {path} is {status} at {address}"),
            _ => Ok(String::from_utf8_lossy(&body).into_owned()),
        }
    }

    async fn connect(&self) -> anyhow::Result<Stream> {
        let address = &self.address;
        let unreachable = |error: &std::io::Error| {
            let what = match error.kind() {
                std::io::ErrorKind::ConnectionRefused => "no process listens at",
                _ => "cannot connect to",
            };
            format!(
                "{what} {address}. If fanfare runs elsewhere, name its admin listener (--metrics-interface) with --admin"
            )
        };
        let stream = TcpStream::connect(address.as_str()).await;
        let stream = stream.map_err(|error| {
            let what = unreachable(&error);
            anyhow::Error::new(error).context(what)
        })?;
        let Some(target) = &self.tls else { return Ok(Stream::Plain(stream)) };
        let connected = tls::connect(stream, target, &Turns::default(), Instant::now() + TIMEOUT).await;
        let failed = || {
            format!(
                "the TLS connection to {address} failed; --ca names the authorities for its certificate, --server-name the name in it"
            )
        };
        Ok(connected.with_context(failed)?.stream)
    }

    /// The error for an answer that is not of HTTP.
    fn strange(&self) -> String {
        let address = &self.address;
        match &self.tls {
            Some(_) => format!("{address} answers, but not as an admin listener"),
            None => format!(
                "{address} answers, but not as an admin listener without TLS: it may use TLS (--admin https://{address}), or be another program"
            ),
        }
    }
}

/// The TLS settings for the listener.
fn target(arguments: &Status) -> anyhow::Result<Target> {
    let name = match &arguments.server_name {
        Some(name) => name.clone(),
        None => {
            let host = arguments.admin.host();
            ServerName::try_from(host.to_owned()).ok().with_context(|| format!("{host} is no name of a host"))?
        }
    };
    let roots = arguments.ca.clone().map_or(Roots::System, Roots::File);
    let settings = ClientSettings { roots, sans: Vec::new(), certificate: None, protocols: vec![Protocol::Http1] };
    let tls =
        ClientTls::load(settings).context("the authorities for the listener's certificate cannot be read (--ca)")?;
    Ok(tls.target(name))
}
