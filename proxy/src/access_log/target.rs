//! The target of a request as logs, events and spans have it: the values of query parameters that are credentials are left out.

use std::ops::Range;

use memchr::{memchr, memchr_iter};
use runtime::redact::SIGNATURES;

use super::text::{MAX_TARGET, into_text, push_loggable};

/// Stands for their values.
const REDACTED: &[u8] = b"REDACTED";

/// The loggable part of a target.
#[must_use]
pub(crate) fn loggable_target(target: &[u8]) -> String {
    let mut text = Vec::new();
    push_target(&mut text, target);
    into_text(text)
}

/// The loggable part of a query without its question mark.
pub(crate) fn loggable_query(query: &[u8]) -> String {
    let mut text = Vec::new();
    push_query(&mut text, &query[..query.len().min(MAX_TARGET)]);
    into_text(text)
}

/// Appends the loggable part of a target.
pub(super) fn push_target(out: &mut Vec<u8>, target: &[u8]) {
    let target = &target[..target.len().min(MAX_TARGET)];
    match memchr(b'?', target) {
        None => push_loggable(out, target),
        Some(at) => {
            let (path, query) = target.split_at(at + 1);
            push_loggable(out, path);
            push_query(out, query);
        }
    }
}

fn push_query(out: &mut Vec<u8>, query: &[u8]) {
    let mut rest = 0;
    for credential in credentials(query) {
        push_loggable(out, &query[rest..credential.start]);
        out.extend_from_slice(REDACTED);
        rest = credential.end;
    }
    push_loggable(out, &query[rest..]);
}

/// The places of values that are credentials.
fn credentials(query: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    memchr_iter(b'&', query).chain([query.len()]).filter_map(move |end| {
        let (parameter, at) = (&query[start..end], start);
        start = end + 1;
        let name = memchr(b'=', parameter)?;
        SIGNATURES.iter().any(|known| known.as_bytes() == &parameter[..name]).then_some(at + name + 1..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_values_of_credentials_are_left_out_and_everything_else_is_kept() {
        for (target, logged) in [
            ("/a", "/a"),
            ("/a?", "/a?"),
            ("/sig=1", "/sig=1"),
            ("/a?b=c&d&=e", "/a?b=c&d&=e"),
            ("/a?sig=s3cret", "/a?sig=REDACTED"),
            ("/a?sv=1&sig=s3cret%3D=&se=2", "/a?sv=1&sig=REDACTED&se=2"),
            (
                "/a?Signature=s3cret&AWSAccessKeyId=s3cret&Expires=1",
                "/a?Signature=REDACTED&AWSAccessKeyId=REDACTED&Expires=1",
            ),
            ("/a?X-Amz-Date=1&X-Amz-Signature=s3cret", "/a?X-Amz-Date=1&X-Amz-Signature=REDACTED"),
            (
                "/a?X-Amz-Credential=s3cret&X-Amz-Security-Token=s3cret",
                "/a?X-Amz-Credential=REDACTED&X-Amz-Security-Token=REDACTED",
            ),
            ("/a?X-Goog-Signature=s3cret", "/a?X-Goog-Signature=REDACTED"),
            ("/a?sig", "/a?sig"),
            ("/a?sig=", "/a?sig=REDACTED"),
            ("/a?signal=1&design=2&Sig=3", "/a?signal=1&design=2&Sig=3"),
            ("/a?b=\n&sig=s3cret&c=\"", "/a?b=.&sig=REDACTED&c=."),
        ] {
            assert_eq!(loggable_target(target.as_bytes()), logged, "{target}");
            if let Some((_, query)) = target.split_once('?') {
                assert_eq!(
                    Some(loggable_query(query.as_bytes()).as_str()),
                    logged.split_once('?').map(|(_, query)| query)
                );
            }
        }
    }

    #[test]
    fn the_length_is_bounded() {
        let long = format!("/?{}", "sig=s3cret&".repeat(1_000));
        let logged = loggable_target(long.as_bytes());
        assert!(logged.len() < 2 * MAX_TARGET && !logged.contains("s3"), "{}", logged.len());
    }
}
