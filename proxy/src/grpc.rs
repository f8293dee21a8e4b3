//! gRPC over HTTP/2: which requests are, what a status is worth, and how an answer is made up
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::time::Duration;

use bytes::Bytes;

use crate::{
    headers,
    http::{Version, request::RequestHead},
    outcome::Outcome,
};

/// A status (`grpc-status`), 0 to 16 where it is a known one.
pub type Code = u8;

/// Everything is well.
pub const OK: Code = 0;
/// The caller has given up.
pub const CANCELLED: Code = 1;
/// Nothing better is known.
pub const UNKNOWN: Code = 2;
/// Time ran out.
pub const DEADLINE_EXCEEDED: Code = 4;
/// The caller may not.
pub const PERMISSION_DENIED: Code = 7;
/// Too large, or too many.
pub const RESOURCE_EXHAUSTED: Code = 8;
/// There is no such thing here.
pub const UNIMPLEMENTED: Code = 12;
/// A server is at fault.
pub const INTERNAL: Code = 13;
/// Try again later.
pub const UNAVAILABLE: Code = 14;
/// The caller has not authenticated itself.
pub const UNAUTHENTICATED: Code = 16;

/// The names of the statuses, in the order of their numbers.
pub const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Bytes before each message: whether it is compressed, and its length.
const MESSAGE_HEAD: usize = 5;

/// The status of an answer, and its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The status.
    pub code: Code,
    /// Its source.
    pub source: Source,
}

/// The source of the status of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// An endpoint.
    Endpoint,
    /// This proxy: no endpoint gave an answer that could be passed on, or it was cut.
    Proxy,
}

/// A set of statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeSet(u32);

// === impl Status ===

impl Status {
    /// One that an endpoint has said.
    #[must_use]
    pub fn of_endpoint(code: Code) -> Self {
        Self { code, source: Source::Endpoint }
    }

    /// One that is made up here.
    #[must_use]
    pub fn made_up(code: Code) -> Self {
        Self { code, source: Source::Proxy }
    }
}

// === impl Source ===

impl Source {
    /// Every source, in the order of their numbers.
    pub const ALL: [Self; 2] = [Self::Endpoint, Self::Proxy];

    /// Its name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Endpoint => "endpoint",
            Self::Proxy => "proxy",
        }
    }
}

// === impl CodeSet ===

impl Default for CodeSet {
    fn default() -> Self {
        Self(1 << OK)
    }
}

impl CodeSet {
    /// The set of these statuses; none where one is unknown.
    #[must_use]
    pub fn of(codes: impl IntoIterator<Item = Code>) -> Option<Self> {
        codes.into_iter().try_fold(Self(0), |set, code| (code <= UNAUTHENTICATED).then(|| Self(set.0 | 1 << code)))
    }

    /// The set of no status.
    #[must_use]
    pub fn none() -> Self {
        Self(0)
    }

    /// Whether the status is in the set.
    #[must_use]
    pub fn contains(self, code: Code) -> bool {
        code <= UNAUTHENTICATED && self.0 & (1 << code) != 0
    }
}

impl std::fmt::Display for CodeSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let codes: Vec<String> =
            (0..=UNAUTHENTICATED).filter(|code| self.contains(*code)).map(|c| c.to_string()).collect();
        f.write_str(&codes.join(","))
    }
}

/// Whether a request is one of gRPC.
#[must_use]
pub fn is_request(head: &RequestHead) -> bool {
    head.version == Version::Http2
        && head.method() == b"POST"
        && head.fields.all("content-type").next().is_some_and(is_content_type)
}

/// Whether a content type is one of gRPC.
#[must_use]
pub fn is_content_type(value: &[u8]) -> bool {
    let rest = value.get(b"application/grpc".len()..);
    value.get(..16).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/grpc"))
        && rest.is_some_and(|rest| rest.first().is_none_or(|next| b"+;".contains(next)))
}

/// The status in trailers, given as lines. Several that differ are [`UNKNOWN`]: the caller may believe another one.
#[must_use]
pub fn status_in(lines: &[u8]) -> Option<Code> {
    let lines = lines.split(|b| *b == b'\n');
    let fields = lines.filter_map(|line| line.iter().position(|b| *b == b':').map(|colon| line.split_at(colon)));
    let found = fields.filter(|(name, _)| name.eq_ignore_ascii_case(b"grpc-status"));
    let mut codes = found.map(|(_, value)| status(value.get(1..)?.trim_ascii()));
    let first = codes.next()?;
    if codes.any(|other| other != first) { Some(UNKNOWN) } else { first }
}

/// The status that a value says; one that is unknown counts as [`UNKNOWN`].
#[must_use]
pub fn status(value: &[u8]) -> Option<Code> {
    // Numbers are also read with a sign, which has no place here.
    let text = std::str::from_utf8(value).ok().filter(|text| !text.starts_with('+'))?;
    let code: Code = text.parse().ok()?;
    Some(if code <= UNAUTHENTICATED { code } else { UNKNOWN })
}

/// The status of a response that says none, by that of HTTP.
#[must_use]
pub fn of_http(status: u16) -> Code {
    match status {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// The status of an answer made up here, by that which it would have in HTTP.
#[must_use]
pub fn of_problem(status: u16) -> Code {
    match status {
        408 | 504 => DEADLINE_EXCEEDED,
        413 | 414 | 431 => RESOURCE_EXHAUSTED,
        501 => UNIMPLEMENTED,
        status => of_http(status),
    }
}

/// The status of a call whose stream the endpoint has reset for this reason.
#[must_use]
pub fn of_reset(reason: h2client::Reason) -> Code {
    match reason {
        h2client::Reason::REFUSED_STREAM => UNAVAILABLE,
        h2client::Reason::CANCEL => CANCELLED,
        h2client::Reason::ENHANCE_YOUR_CALM => RESOURCE_EXHAUSTED,
        h2client::Reason::INADEQUATE_SECURITY => PERMISSION_DENIED,
        _ => INTERNAL,
    }
}

/// The status of a leg that ended like this without one of its endpoint.
#[must_use]
pub fn of_outcome(outcome: Outcome) -> Code {
    match outcome {
        Outcome::Ok => OK,
        Outcome::Timeout => DEADLINE_EXCEEDED,
        Outcome::Cancelled => CANCELLED,
        Outcome::Protocol => INTERNAL,
        _ => UNAVAILABLE,
    }
}

/// How a leg ended whose endpoint has answered with this status.
#[must_use]
pub fn outcome(code: Code, success: CodeSet) -> Outcome {
    match code {
        code if success.contains(code) => Outcome::Ok,
        UNAVAILABLE | DEADLINE_EXCEEDED | INTERNAL | UNKNOWN => Outcome::ServerError,
        _ => Outcome::ClientError,
    }
}

/// Whether the first message is here, given the body from its start.
#[must_use]
pub fn has_message<'a>(pieces: impl IntoIterator<Item = &'a [u8]> + Clone) -> bool {
    let mut head = pieces.clone().into_iter().flatten();
    let mut take = || head.next().copied();
    let (Some(_), Some(a), Some(b), Some(c), Some(d)) = (take(), take(), take(), take(), take()) else { return false };
    let message = u32::from_be_bytes([a, b, c, d]) as usize;
    let here: usize = pieces.into_iter().map(<[u8]>::len).sum();
    here - MESSAGE_HEAD >= message
}

/// The time that a caller gives (`grpc-timeout`): at most eight digits and a unit.
#[must_use]
pub fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The same as a value of the field, never longer than the time is.
#[must_use]
pub fn timeout_value(time: Duration) -> String {
    let (micros, millis) = (time.as_micros(), time.as_millis());
    match () {
        () if micros < 100_000_000 => format!("{micros}u"),
        () if millis < 100_000_000 => format!("{millis}m"),
        () => format!("{}S", time.as_secs().min(99_999_999)),
    }
}

/// Writes the fields of an answer that is all trailers, without the end of its head.
pub fn put_made_up(out: &mut Vec<u8>, code: Code, message: &str) {
    headers::put_status(out, 200, b"OK");
    headers::put_text(out, "Content-Type", &["application/grpc"]);
    headers::put_text(out, "Grpc-Status", &[&code.to_string()]);
    headers::put_text(out, "Grpc-Message", &[&percent_encoded(message)]);
}

/// The lines of the trailers of an answer that has begun and breaks off.
#[must_use]
pub fn trailer_lines(code: Code, message: &str) -> Bytes {
    format!("grpc-status: {code}\r\ngrpc-message: {}\r\n", percent_encoded(message)).into()
}

/// What is not visible ASCII, and the percent sign, as `%` and two digits.
fn percent_encoded(message: &str) -> String {
    let encode = |b: u8| match b {
        b' '..=b'~' if b != b'%' => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    message.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_wherever_it_stands() {
        assert_eq!(status_in(b"x: 1\r\nGrpc-Status: 5\r\ngrpc-message: no\r\n"), Some(5));
        assert_eq!(status_in(b"grpc-status:0\r\n"), Some(0));
        assert_eq!(status_in(b"grpc-status: 0\r\ngrpc-status: 0\r\n"), Some(0));
        for contradiction in ["grpc-status: 0\r\ngrpc-status: 5\r\n", "grpc-status: 0\r\ngrpc-status: x\r\n"] {
            assert_eq!(status_in(contradiction.as_bytes()), Some(UNKNOWN), "{contradiction}");
        }
        assert_eq!(
            (status_in(b""), status_in(b"grpc-status: x\r\n"), status_in(b"grpc-status\r\n")),
            (None, None, None)
        );
        assert_eq!((status(b"16"), status(b"17"), status(b"-1"), status(b"+1")), (Some(16), Some(2), None, None));
    }

    #[test]
    fn statuses_have_their_rank() {
        let either = CodeSet::of([0, 5]).unwrap();
        assert_eq!(CodeSet::of([17]), None);
        assert_eq!(
            (outcome(0, CodeSet::default()), outcome(5, CodeSet::default())),
            (Outcome::Ok, Outcome::ClientError)
        );
        assert_eq!((outcome(5, either), outcome(14, either)), (Outcome::Ok, Outcome::ServerError));
        assert_eq!(
            [400, 401, 403, 404, 429, 502, 503, 504, 500, 418].map(of_http),
            [13, 16, 7, 12, 14, 14, 14, 14, 2, 2]
        );
    }

    #[test]
    fn a_call_without_a_status_has_that_of_what_ended_it() {
        use h2client::Reason;
        let resets = [
            Reason::NO_ERROR,
            Reason::PROTOCOL_ERROR,
            Reason::INTERNAL_ERROR,
            Reason::REFUSED_STREAM,
            Reason::CANCEL,
            Reason::ENHANCE_YOUR_CALM,
            Reason::INADEQUATE_SECURITY,
        ];
        assert_eq!(resets.map(of_reset), [13, 13, 13, 14, 1, 8, 7]);
        let outcomes = [Outcome::Connect, Outcome::Reset, Outcome::Timeout, Outcome::Rejected, Outcome::Cancelled];
        assert_eq!(outcomes.map(of_outcome), [14, 14, 4, 14, 1]);
        assert_eq!((NAMES.len(), NAMES[16]), (17, "UNAUTHENTICATED"));
    }

    #[test]
    fn a_message_is_here_when_all_of_it_is() {
        let whole = [b"\0\0\0".as_slice(), b"\0\x03a", b"bc"];
        assert!(has_message(whole));
        assert!(!has_message([b"\0\0\0".as_slice(), b"\0\x03a", b"b"]) && !has_message([b"\0\0\0\0".as_slice()]));
        assert!(has_message([b"\0\0\0\0\0".as_slice()]), "an empty one");
    }

    #[test]
    fn times_are_read_and_never_written_longer() {
        for (text, want) in [("1H", 3_600_000), ("2M", 120_000), ("3S", 3_000), ("99999999m", 99_999_999), ("5000u", 5)]
        {
            assert_eq!(timeout(text.as_bytes()), Some(Duration::from_millis(want)), "{text}");
        }
        for text in ["", "S", "1", "1x", "-1S", "123456789S", "1 S"] {
            assert_eq!(timeout(text.as_bytes()), None, "{text}");
        }
        for micros in [0, 1, 99_999_999, 100_000_000, 99_999_999_999, 1 << 60] {
            let time = Duration::from_micros(micros);
            let read = timeout(timeout_value(time).as_bytes()).unwrap();
            assert!(
                read <= time && (read == time || read > time / 2 || read.as_secs() == 99_999_999),
                "{time:?} {read:?}"
            );
        }
    }

    #[test]
    fn a_message_of_an_error_is_visible_ascii() {
        assert_eq!(percent_encoded("100% \u{e9}\n"), "100%25 %C3%A9%0A");
    }
}
