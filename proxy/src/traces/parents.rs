//! The `traceparent` of each leg: the legs of a request share one head, and each sends its own span as the parent in it.

use bytes::Bytes;
use memchr::memmem;
use spans::{PARENT_AT, PARENT_BYTES, RequestTrace, SpanId};

/// The generated field in a head.
const FIELD: &[u8] = b"\r\ntraceparent: ";

/// The same in a block of HTTP/2: a literal, the length of the name, the name, and the length of the value. No value of another field
/// contains it, because none contains a zero byte.
const FIELD_IN_BLOCK: &[u8] = b"\0\x0btraceparent\x37";

/// The generated `traceparent` in the common head of legs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parents {
    trace: RequestTrace,
    /// Where its value begins.
    at: usize,
}

/// The parent that a leg sends instead of the one in the common head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwnParent {
    /// Where it begins in the head.
    at: usize,
    digits: [u8; PARENT_BYTES],
}

// === impl Parents ===

impl Parents {
    /// Finds the field in a head; none if the route sets or removes it.
    pub(crate) fn in_head(head: &[u8], trace: RequestTrace) -> Option<Self> {
        let at = memmem::find(head, FIELD)? + FIELD.len();
        let own = trace.traceparent(trace.request_span());
        head[at..].starts_with(&own[..PARENT_AT]).then_some(Self { trace, at })
    }

    /// The parent that the leg with this number sends.
    pub(crate) fn of(self, index: usize) -> OwnParent {
        OwnParent { at: self.at + PARENT_AT, digits: self.trace.leg_span(index).to_hex() }
    }
}

// === impl OwnParent ===

impl OwnParent {
    /// The parts of the common head as this leg sends it, whose length is the same.
    pub(crate) fn parts<'a>(&'a self, head: &'a [u8]) -> [&'a [u8]; 3] {
        self.parts_at(self.at, head)
    }

    /// The same in the form of HTTP/2.
    pub(crate) fn parts_of_block<'a>(&'a self, block: &'a [u8]) -> [&'a [u8]; 3] {
        match memmem::find(block, FIELD_IN_BLOCK) {
            Some(at) => self.parts_at(at + FIELD_IN_BLOCK.len() + PARENT_AT, block),
            None => [block, &[], &[]],
        }
    }

    fn parts_at<'a>(&'a self, at: usize, whole: &'a [u8]) -> [&'a [u8]; 3] {
        match whole.split_at_checked(at) {
            Some((before, rest)) if rest.len() >= PARENT_BYTES => [before, &self.digits, &rest[PARENT_BYTES..]],
            _ => [whole, &[], &[]],
        }
    }
}

/// A head with this parent in its generated field.
pub(crate) fn with_parent(mut head: Vec<u8>, trace: RequestTrace, parent: SpanId) -> Bytes {
    if let Some(Parents { at, .. }) = Parents::in_head(&head, trace)
        && let Some(digits) = head.get_mut(at + PARENT_AT..at + PARENT_AT + PARENT_BYTES)
    {
        digits.copy_from_slice(&parent.to_hex());
    }
    head.into()
}

#[cfg(test)]
mod tests {
    use h2client::hpack::Decoder;

    use super::*;
    use crate::http2::translate;

    fn line(text: [u8; 55]) -> String {
        format!("\r\ntraceparent: {}\r\n", std::str::from_utf8(&text).unwrap())
    }

    #[test]
    fn each_leg_names_itself_as_the_parent_but_in_no_context_of_another() {
        let trace = RequestTrace::begun(|_| true);
        let head = format!("GET / HTTP/1.1\r\nA: b{}\r\n", line(trace.traceparent(trace.request_span())));
        let want = format!("GET / HTTP/1.1\r\nA: b{}\r\n", line(trace.traceparent(trace.leg_span(3))));
        assert_eq!(with_parent(head.clone().into(), trace, trace.leg_span(3)), want);
        let parents = Parents::in_head(head.as_bytes(), trace).expect("it is generated");
        assert_eq!(parents.of(3).parts(head.as_bytes()).concat(), want.as_bytes());
        let back = with_parent(want.into(), trace, trace.request_span());
        assert_eq!(back, head, "the parent of a leg can be replaced, too");
        for other in ["GET / HTTP/1.1\r\ntraceparent: set-by-the-route\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r\n\r\n"] {
            assert_eq!(with_parent(other.into(), trace, trace.leg_span(3)), other);
            assert!(Parents::in_head(other.as_bytes(), trace).is_none(), "{other}");
        }
    }

    #[test]
    fn in_http2_legs_share_a_block_in_which_only_the_parent_differs() {
        let trace = RequestTrace::begun(|_| true);
        let own = line(trace.traceparent(trace.request_span()));
        let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-B: \\0traceparent7{own}X-C: d\r\n\r\n");
        let mut block = Vec::new();
        translate::put_request(&mut block, head.as_bytes()).expect("it can be said in HTTP/2");
        let parents = Parents::in_head(head.as_bytes(), trace).expect("it is generated");
        let fields = |block: &[u8]| {
            let mut seen = Vec::new();
            let decoded = Decoder::default().decode(block, |name, value| seen.push((name.to_vec(), value.to_vec())));
            decoded.expect("it can be decoded");
            seen
        };
        for index in [0, 7] {
            let parent = parents.of(index);
            let sent = parent.parts_of_block(&block).concat();
            let mut want = fields(&block);
            let field = want.iter_mut().find(|(name, _)| name == b"traceparent").expect("it is there");
            field.1 = trace.traceparent(trace.leg_span(index)).to_vec();
            assert_eq!(fields(&sent), want);
        }
        let mut without = Vec::new();
        let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        translate::put_request(&mut without, head).expect("it can be said in HTTP/2");
        assert_eq!(parents.of(0).parts_of_block(&without).concat(), without);
    }
}
