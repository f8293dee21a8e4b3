//! The status and code of an S3 store's last answer, which its client has only as part of a text.

use std::{fmt, pin::Pin, sync::Arc};

use object_store::{
    ClientOptions,
    client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector},
};
use parking_lot::Mutex;

use super::SinkErrorKind;

/// The longest error code of S3, in bytes.
const MAX_CODE: usize = 64;

/// The last unsuccessful answer. Clones share it. There is one request at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(Arc<Mutex<Option<Refusal>>>);

/// An unsuccessful answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The status.
    pub(super) status: u16,
    /// The code in its body (`Error/Code`); empty where there is none.
    pub(super) code: String,
}

/// Sends requests as the client does by default, and records the answers.
#[derive(Debug)]
struct Recording {
    client: HttpClient,
    answers: Answers,
}

impl Answers {
    /// Forgets the last answer, before a request is sent.
    pub(super) fn forget(&self) {
        *self.0.lock() = None;
    }

    /// The answer since then, if it was no success.
    pub(super) fn last(&self) -> Option<Refusal> {
        self.0.lock().clone()
    }
}

impl Refusal {
    fn read(status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let inner = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        let code = inner.map(|(code, _)| code.trim()).filter(|code| code.len() <= MAX_CODE);
        Self { status, code: code.unwrap_or_default().to_owned() }
    }

    /// The kind of error.
    pub(super) fn error_kind(&self) -> SinkErrorKind {
        match (self.status, self.code.as_str()) {
            // Temporary errors, although the status blames the request.
            (400, "RequestTimeout") | (408 | 425 | 429, _) => SinkErrorKind::Unavailable,
            (400, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") | (401 | 403 | 407, _) => {
                SinkErrorKind::Denied
            }
            (409 | 412, _) => SinkErrorKind::Conflict,
            (501 | 505, _) => SinkErrorKind::Refused,
            (500.., _) => SinkErrorKind::Unavailable,
            _ => SinkErrorKind::Refused,
        }
    }

    /// Whether the bucket is missing: S3 has no other reason to answer a write with 404.
    pub(super) fn is_no_bucket(&self) -> bool {
        self.code == "NoSuchBucket" || self.status == 404
    }
}

impl HttpConnector for Answers {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Recording { client, answers: self.clone() }))
    }
}

impl HttpService for Recording {
    // The signature that `async_trait` generates, with which the trait is declared.
    fn call<'a, 'f>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'f>>
    where
        'a: 'f,
        Self: 'f,
    {
        Box::pin(async move {
            let response = self.client.execute(request).await?;
            let status = response.status();
            // 304 is the expected answer to a conditional request.
            if status.is_success() || status.as_u16() == 304 {
                return Ok(response);
            }
            let (head, body) = response.into_parts();
            let body = body.bytes().await?;
            *self.answers.0.lock() = Some(Refusal::read(status.as_u16(), &body));
            Ok(HttpResponse::from_parts(head, body.into()))
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_error_follows_from_status_and_code_only() {
        let kind = |status: u16, code: &str| {
            let body = format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>code: 400 NoSuchBucket</Message></Error>"
            );
            let answer = Refusal::read(status, body.as_bytes());
            assert_eq!(answer.code, code);
            answer.error_kind()
        };
        assert_eq!(kind(503, "SlowDown"), SinkErrorKind::Unavailable);
        assert_eq!(kind(500, "InternalError"), SinkErrorKind::Unavailable);
        assert_eq!(kind(400, "RequestTimeout"), SinkErrorKind::Unavailable);
        assert_eq!(kind(400, "InvalidBucketName"), SinkErrorKind::Refused);
        assert_eq!(kind(501, "NotImplemented"), SinkErrorKind::Refused);
        assert_eq!(kind(413, "EntityTooLarge"), SinkErrorKind::Refused);
        assert_eq!(kind(301, "PermanentRedirect"), SinkErrorKind::Refused);
        assert_eq!(kind(400, "ExpiredToken"), SinkErrorKind::Denied);
        assert_eq!(kind(403, "AccessDenied"), SinkErrorKind::Denied);
        assert_eq!(kind(412, "PreconditionFailed"), SinkErrorKind::Conflict);
        assert_eq!(kind(409, "ConditionalRequestConflict"), SinkErrorKind::Conflict);
    }

    #[test]
    fn a_body_that_is_no_error_of_s3_says_nothing() {
        for body in ["", "<html>", "<Code>", &format!("<Code>{}</Code>", "x".repeat(100))] {
            assert_eq!(Refusal::read(502, body.as_bytes()), Refusal { status: 502, code: String::new() });
        }
        assert!(Refusal::read(404, b"<Error><Code>NoSuchBucket</Code></Error>").is_no_bucket());
        assert!(!Refusal::read(403, b"<Error><Message>NoSuchBucket</Message></Error>").is_no_bucket());
    }
}
