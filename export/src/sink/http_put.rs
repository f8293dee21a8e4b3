//! HTTP servers that accept files by PUT: WebDAV, a configuration API, or the user's own.

use std::{fmt, time::Duration};

use bytes::BytesMut;
use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH,
        IF_NONE_MATCH, LOCATION,
    },
};
use runtime::redact;

use super::{
    CONNECT_TIMEOUT, Condition, Document, Fetched, SinkError, SinkErrorKind,
    coding::decoded,
    store::{MAX_BYTES, short},
};

/// URLs for PUT requests. Conditions name the server's strong entity tag (RFC 9110, section 8.8.3).
#[derive(Debug)]
pub(crate) struct HttpPut {
    client: Client,
}

impl HttpPut {
    pub(super) fn open(
        place: &impl fmt::Display,
        fields: &[(String, String)],
        timeout: Duration,
    ) -> Result<Self, SinkError> {
        let refused = |what: String| SinkError::new(place, SinkErrorKind::Refused, what);
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name: HeaderName =
                name.parse().map_err(|_| refused(format!("`{name}` is not the name of a header field")))?;
            let mut value: HeaderValue = value
                .parse()
                .map_err(|_| refused(format!("the value of the header field {name} has bytes it must not have")))?;
            value.set_sensitive(true);
            headers.append(name, value);
        }
        let builder = Client::builder().default_headers(headers).timeout(timeout).connect_timeout(CONNECT_TIMEOUT);
        // Redirects are not followed: they would take our credentials elsewhere.
        let client = builder.redirect(reqwest::redirect::Policy::none()).build();
        Ok(Self { client: client.map_err(|error| refused(error.to_string()))? })
    }

    pub(super) async fn fetch(&self, url: &str, unless: Option<&str>) -> Result<Fetched, SinkError> {
        let mut request = self.client.get(url).header(ACCEPT_ENCODING, "identity");
        if let Some(tag) = unless {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let mut answer = send(url, request).await?;
        match answer.status() {
            StatusCode::NOT_MODIFIED => return Ok(Fetched::Same),
            StatusCode::NOT_FOUND | StatusCode::GONE => return Ok(Fetched::Missing),
            // The server accepts files but does not return them.
            StatusCode::METHOD_NOT_ALLOWED => {
                return Err(SinkError::new(&redact::urls(url), SinkErrorKind::Denied, "GET is not allowed"));
            }
            StatusCode::OK => {}
            // For instance 204, or an answer of a proxy in between.
            status if status.is_success() => {
                return Ok(Fetched::NoFile(format!("it answers {status}, which is not a file")));
            }
            status if status.is_redirection() => return Ok(Fetched::NoFile(redirect(&answer))),
            _ => return Err(refusal(url, answer).await),
        }
        let tag = tag(&answer);
        let field = |name| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (media_type, coding) = (field(CONTENT_TYPE), field(CONTENT_ENCODING));
        let mut bytes = BytesMut::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| unavailable(url, error))? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > MAX_BYTES {
                let what = format!("it answers with more than the {MAX_BYTES} bytes that are read");
                return Err(SinkError::new(&redact::urls(url), SinkErrorKind::Refused, what));
            }
        }
        Ok(match decoded(coding.as_deref(), bytes.freeze()).await {
            Ok(bytes) => Fetched::Found { bytes, tag, media_type },
            Err(why) => Fetched::NoFile(why),
        })
    }

    pub(super) async fn store(
        &self,
        url: &str,
        document: &Document,
        condition: Condition<'_>,
    ) -> Result<Option<String>, SinkError> {
        let mut request = self.client.put(url).header(CONTENT_TYPE, document.content_type).body(document.bytes.clone());
        request = match condition {
            Condition::Nothing => request,
            Condition::Absent => request.header(IF_NONE_MATCH, "*"),
            Condition::Is(tag) => request.header(IF_MATCH, tag),
        };
        let answer = send(url, request).await?;
        if !answer.status().is_success() {
            return Err(refusal(url, answer).await);
        }
        Ok(tag(&answer))
    }

    pub(super) async fn remove(&self, url: &str) -> Result<(), SinkError> {
        let answer = send(url, self.client.delete(url)).await?;
        match answer.status() {
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(refusal(url, answer).await),
        }
    }
}

async fn send(url: &str, request: RequestBuilder) -> Result<Response, SinkError> {
    request.send().await.map_err(|error| unavailable(url, error))
}

/// The strong entity tag. A weak one does not identify the bytes.
fn tag(answer: &Response) -> Option<String> {
    let tag = answer.headers().get(ETAG)?.to_str().ok()?;
    tag.starts_with('"').then(|| tag.to_owned())
}

/// An error text about a redirect, such as login pages use.
fn redirect(answer: &Response) -> String {
    let status = answer.status();
    let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    // The query may contain a secret.
    let location =
        location.and_then(|location| location.split('?').next()).map(|location| redact::urls(&short(location)));
    format!("it answers {status} to {}, and redirects are not followed", location.as_deref().unwrap_or("nowhere"))
}

fn unavailable(url: &str, error: reqwest::Error) -> SinkError {
    // The place is part of the error already.
    let error = error.without_url();
    let mut what = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        what = format!("{what}: {cause}");
        source = cause.source();
    }
    SinkError::new(&redact::urls(url), SinkErrorKind::Unavailable, what)
}

async fn refusal(url: &str, answer: Response) -> SinkError {
    let status = answer.status();
    let kind = match status.as_u16() {
        401 | 403 | 407 => SinkErrorKind::Denied,
        409 | 412 => SinkErrorKind::Conflict,
        408 | 425 | 429 => SinkErrorKind::Unavailable,
        501 | 505 => SinkErrorKind::Refused,
        500.. => SinkErrorKind::Unavailable,
        _ => SinkErrorKind::Refused,
    };
    // Reads are bounded.
    let too_long = answer.content_length().is_some_and(|length| length > 64 << 10);
    let said = if too_long { String::new() } else { answer.text().await.unwrap_or_default() };
    SinkError::new(&redact::urls(url), kind, short(&format!("{status} {said}")))
}

impl fmt::Display for HttpPut {
    fn fmt(&self, _f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The location is the whole URL.
        Ok(())
    }
}
