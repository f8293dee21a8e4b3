//! What an S3 store answered last, as a status and a code: its client tells that as text alone.

use std::{fmt, pin::Pin, sync::Arc};

use object_store::{
    ClientOptions,
    client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector},
};
use parking_lot::Mutex;

use super::Trouble;

/// No code of S3 is longer.
const MAX_CODE: usize = 64;

/// The last answer that was no success. Cloning shares it; whoever asks sends one request at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers(Arc<Mutex<Option<Answer>>>);

/// An answer that was no success.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status.
    pub(super) status: u16,
    /// What its body says (`Error/Code`); empty where it says nothing.
    pub(super) code: String,
}

/// Connects as the client would by itself, and listens.
#[derive(Debug)]
struct Listening {
    client: HttpClient,
    answers: Answers,
}

impl Answers {
    /// A request is about to be sent.
    pub(super) fn forget(&self) {
        *self.0.lock() = None;
    }

    /// What was answered since then, where that was no success.
    pub(super) fn last(&self) -> Option<Answer> {
        self.0.lock().clone()
    }
}

impl Answer {
    fn read(status: u16, body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let inner = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        let code = inner.map(|(code, _)| code.trim()).filter(|code| code.len() <= MAX_CODE);
        Self { status, code: code.unwrap_or_default().to_owned() }
    }

    /// What kind of trouble it is.
    pub(super) fn trouble(&self) -> Trouble {
        match (self.status, self.code.as_str()) {
            // They pass, though their status says that the request is at fault.
            (400, "RequestTimeout") | (408 | 425 | 429, _) => Trouble::Unavailable,
            (400, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") | (401 | 403 | 407, _) => Trouble::Denied,
            (409 | 412, _) => Trouble::Conflict,
            (501 | 505, _) => Trouble::Refused,
            (500.., _) => Trouble::Unavailable,
            _ => Trouble::Refused,
        }
    }

    /// Whether it is the bucket that is missing. S3 knows no other reason for a 404 to a write.
    pub(super) fn is_no_bucket(&self) -> bool {
        self.code == "NoSuchBucket" || self.status == 404
    }
}

impl HttpConnector for Answers {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Listening { client, answers: self.clone() }))
    }
}

impl HttpService for Listening {
    // As `async_trait` has it, which this trait is made with.
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
            // 304 is what a condition was for.
            if status.is_success() || status.as_u16() == 304 {
                return Ok(response);
            }
            let (head, body) = response.into_parts();
            let body = body.bytes().await?;
            *self.answers.0.lock() = Some(Answer::read(status.as_u16(), &body));
            Ok(HttpResponse::from_parts(head, body.into()))
        })
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_trouble_follows_from_status_and_code_and_from_no_other_text() {
        let kind = |status: u16, code: &str| {
            let body = format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>code: 400 NoSuchBucket</Message></Error>"
            );
            let answer = Answer::read(status, body.as_bytes());
            assert_eq!(answer.code, code);
            answer.trouble()
        };
        assert_eq!(kind(503, "SlowDown"), Trouble::Unavailable);
        assert_eq!(kind(500, "InternalError"), Trouble::Unavailable);
        assert_eq!(kind(400, "RequestTimeout"), Trouble::Unavailable);
        assert_eq!(kind(400, "InvalidBucketName"), Trouble::Refused);
        assert_eq!(kind(501, "NotImplemented"), Trouble::Refused);
        assert_eq!(kind(413, "EntityTooLarge"), Trouble::Refused);
        assert_eq!(kind(301, "PermanentRedirect"), Trouble::Refused);
        assert_eq!(kind(400, "ExpiredToken"), Trouble::Denied);
        assert_eq!(kind(403, "AccessDenied"), Trouble::Denied);
        assert_eq!(kind(412, "PreconditionFailed"), Trouble::Conflict);
        assert_eq!(kind(409, "ConditionalRequestConflict"), Trouble::Conflict);
    }

    #[test]
    fn a_body_that_is_no_error_of_s3_says_nothing() {
        for body in ["", "<html>", "<Code>", &format!("<Code>{}</Code>", "x".repeat(100))] {
            assert_eq!(Answer::read(502, body.as_bytes()), Answer { status: 502, code: String::new() });
        }
        assert!(Answer::read(404, b"<Error><Code>NoSuchBucket</Code></Error>").is_no_bucket());
        assert!(!Answer::read(403, b"<Error><Message>NoSuchBucket</Message></Error>").is_no_bucket());
    }
}
