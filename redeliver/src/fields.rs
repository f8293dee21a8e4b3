//! Which header fields make two requests different, so that one cannot stand for the other.

use std::hash::{BuildHasher, Hasher};

use memchr::memmem;

/// Fields with the identity, the sender or the path of a request, which do not change its effect.
///
/// `Authorization` and `Cookie` are not among them: an endpoint may refuse the later request for them, and the earlier one, which it
/// would have taken, would be lost.
const IGNORED: [&str; 18] = [
    "baggage",
    "b3",
    "date",
    "forwarded",
    "host",
    "traceparent",
    "tracestate",
    "uber-trace-id",
    "user-agent",
    "via",
    "x-amzn-trace-id",
    "x-client-ip",
    "x-cloud-trace-context",
    "x-correlation-id",
    "x-datadog-trace-id",
    "x-real-ip",
    "x-request-id",
    "x-request-start",
];

/// The same for all fields that begin so.
const IGNORED_PREFIXES: [&str; 3] = ["x-b3-", "x-broadcast-", "x-forwarded-"];

/// A hash of the fields that matter.
pub(crate) fn hash(hasher: &impl BuildHasher, head: &[u8]) -> u64 {
    let mut state = hasher.build_hasher();
    for line in lines(head) {
        state.write(line);
        // So that no line is taken for the end of the one before.
        state.write_u8(b'\n');
    }
    state.finish()
}

/// Whether the fields that matter are the same, in the same order.
pub(crate) fn same(a: &[u8], b: &[u8]) -> bool {
    lines(a).eq(lines(b))
}

/// The lines of a head that matter. Host is compared elsewhere: it may be another one for each endpoint.
fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = head;
    let all = std::iter::from_fn(move || {
        let (line, after) = match memmem::find(rest, b"\r\n") {
            Some(at) => (&rest[..at], &rest[at + 2..]),
            None => (rest, &rest[rest.len()..]),
        };
        (!rest.is_empty()).then(|| {
            rest = after;
            line
        })
    });
    all.filter(|line| !line.is_empty() && !is_ignored(line))
}

fn is_ignored(line: &[u8]) -> bool {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    let begins = |prefix: &&str| name.get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix.as_bytes()));
    IGNORED.iter().any(|ignored| name.eq_ignore_ascii_case(ignored.as_bytes())) || IGNORED_PREFIXES.iter().any(begins)
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;

    use super::*;

    fn head(fields: &str) -> String {
        format!("BAN /x HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    }

    fn are_same(a: &str, b: &str) -> bool {
        let (a, b, hasher) = (head(a), head(b), RandomState::new());
        let same = same(a.as_bytes(), b.as_bytes());
        assert_eq!(same, hash(&hasher, a.as_bytes()) == hash(&hasher, b.as_bytes()), "{a} and {b}");
        same
    }

    #[test]
    fn requests_that_differ_in_their_effect_are_not_merged() {
        for (a, b) in [
            ("X-Ban-Expression: obj.http.x ~ a\r\n", "X-Ban-Expression: obj.http.x ~ b\r\n"),
            ("X-Ban-Expression: a\r\n", ""),
            ("Accept: a\r\nX-Key: b\r\n", "Accept: a\r\nX-Key: b\r\nX-Key: c\r\n"),
            ("Authorization: Bearer a\r\n", "Authorization: Bearer b\r\n"),
            ("Cookie: a=1\r\n", "Cookie: a=2\r\n"),
            ("Idempotency-Key: a\r\n", "Idempotency-Key: b\r\n"),
            ("X-Forwarded: a\r\n", "X-Forwarded: b\r\n"),
        ] {
            assert!(!are_same(a, b), "{a} and {b}");
            assert!(are_same(a, a) && are_same(b, b));
        }
    }

    #[test]
    fn which_request_it_is_and_which_way_it_came_makes_no_difference() {
        let a = "x-REQUEST-id: 1\r\nUser-Agent: a\r\nVia: 1.1 a\r\nX-Key: k\r\nX-Forwarded-For: 1.1.1.1\r\ntraceparent: 00-a\r\n";
        let b = "X-Key: k\r\nX-Request-Id: 2\r\nForwarded: for=_b\r\nX-B3-TraceId: 7\r\nX-Broadcast-Age: 1\r\n";
        assert!(are_same(a, b));
        assert!(are_same(a, "X-Key: k\r\n") && are_same("", "Date: now\r\n"));
    }

    #[test]
    fn the_host_of_one_endpoint_makes_no_difference() {
        assert!(same(
            b"BAN / HTTP/1.1\r\nHost: 10.0.0.1:80\r\nA: b\r\n\r\n",
            b"BAN / HTTP/1.1\r\nHost: 10.0.0.2:80\r\nA: b"
        ));
    }
}
