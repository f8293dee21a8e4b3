//! The W3C trace context: parses `traceparent`, begins traces, and writes the `traceparent` of each copy.

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
};

/// The length of a `traceparent` of version 00.
pub const TRACEPARENT_BYTES: usize = 55;

/// The position of the parent id in it.
pub const PARENT_AT: usize = 36;

/// The length of the parent id.
pub const PARENT_BYTES: usize = 16;

/// The flag of recorded traces.
const SAMPLED: u8 = 1;

/// The flag of random trace ids (level 2 of the recommendation), which is passed on unchanged.
const RANDOM: u8 = 2;

/// The id of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

/// The id of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

/// The content of a valid `traceparent`: the span of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteParent {
    /// The trace.
    pub trace: TraceId,
    /// The sender's span.
    pub span: SpanId,
    flags: u8,
}

/// The ids of one request and of its copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestTrace {
    /// The trace.
    pub trace: TraceId,
    /// The span of the sender, if the trace was continued.
    pub parent: Option<SpanId>,
    flags: u8,
    /// The ids of its spans are computed from this number.
    seed: u64,
}

// === impl TraceId ===

impl TraceId {
    /// The id with these bytes; none if all are zero.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        NonZeroU128::new(u128::from_be_bytes(bytes)).map(Self)
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.get().to_be_bytes()
    }

    /// Its text.
    #[must_use]
    pub fn to_hex(self) -> Hex<32> {
        let mut text = [0; 32];
        put_hex(&mut text, self.0.get());
        Hex(text)
    }

    fn random() -> Self {
        Self(NonZeroU128::new(fastrand::u128(..)).unwrap_or(NonZeroU128::MIN))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_hex().as_str())
    }
}

impl serde::Serialize for TraceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.to_hex().as_str())
    }
}

// === impl SpanId ===

impl SpanId {
    /// Its bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }

    /// Its digits, as in a `traceparent`.
    #[must_use]
    pub fn to_hex(self) -> [u8; PARENT_BYTES] {
        let mut digits = [0; PARENT_BYTES];
        put_hex(&mut digits, self.0.get().into());
        digits
    }

    /// An id that is different for each number.
    fn of(seed: u64, number: u64) -> Self {
        // The finaliser of SplitMix64: a bijection, so that no two spans of a request have the same id.
        let mut id = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        id ^= id >> 31;
        Self(NonZeroU64::new(id).unwrap_or(NonZeroU64::MAX))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Hexadecimal digits.
#[derive(Clone, Copy)]
pub struct Hex<const N: usize>([u8; N]);

impl<const N: usize> Hex<N> {
    /// The digits as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Digits are always text.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

// === impl RemoteParent ===

impl RemoteParent {
    /// Parses the `traceparent` fields of a request; none if there is no field, more than one, or an invalid one.
    pub fn of<'a>(mut fields: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let field = fields.next()?;
        if fields.next().is_some() {
            return None;
        }
        Self::parse(field)
    }

    /// Parses a `traceparent`. Additional parts of later versions are ignored, as the recommendation requires.
    fn parse(field: &[u8]) -> Option<Self> {
        let (known, rest) = field.split_first_chunk::<TRACEPARENT_BYTES>()?;
        let dashes = known[2] == b'-' && known[35] == b'-' && known[52] == b'-';
        let version = hex(&known[..2])?;
        let is_whole = if version == 0 { rest.is_empty() } else { rest.first().is_none_or(|next| *next == b'-') };
        if !dashes || version == 0xff || !is_whole {
            return None;
        }
        let trace = NonZeroU128::new(hex(&known[3..35])?)?;
        let span = NonZeroU64::new(u64::try_from(hex(&known[PARENT_AT..52])?).ok()?)?;
        // Two digits are one byte.
        let flags = u8::try_from(hex(&known[53..])?).ok()?;
        Some(Self { trace: TraceId(trace), span: SpanId(span), flags: flags & (SAMPLED | RANDOM) })
    }

    /// Whether the sampled flag is set.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }
}

// === impl RequestTrace ===

impl RequestTrace {
    /// Continues a trace. Its sampled flag decides whether spans are recorded.
    #[must_use]
    pub fn continued(parent: RemoteParent) -> Self {
        let RemoteParent { trace, span, flags } = parent;
        Self { trace, parent: Some(span), flags, seed: fastrand::u64(..) }
    }

    /// Begins a trace; `sampled` decides by its id whether it is recorded.
    #[must_use]
    pub fn begun(sampled: impl FnOnce(TraceId) -> bool) -> Self {
        let trace = TraceId::random();
        Self { trace, parent: None, flags: if sampled(trace) { SAMPLED } else { 0 }, seed: fastrand::u64(..) }
    }

    /// Whether its spans are recorded.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The id of the span of the request.
    #[must_use]
    pub fn request_span(&self) -> SpanId {
        SpanId::of(self.seed, 0)
    }

    /// The id of the span of a leg, by its number.
    #[must_use]
    pub fn leg_span(&self, index: usize) -> SpanId {
        SpanId::of(self.seed, index as u64 + 1)
    }

    /// The `traceparent` with this parent.
    #[must_use]
    pub fn traceparent(&self, parent: SpanId) -> [u8; TRACEPARENT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put_hex(&mut text[3..35], self.trace.0.get());
        text[PARENT_AT..PARENT_AT + PARENT_BYTES].copy_from_slice(&parent.to_hex());
        put_hex(&mut text[53..], self.flags.into());
        text
    }
}

/// Writes the lowest hexadecimal digits of a number.
fn put_hex(digits: &mut [u8], mut number: u128) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

/// Parses at most 32 lower-case hexadecimal digits.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number: u128, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn parse(field: &str) -> Option<RemoteParent> {
        RemoteParent::of([field.as_bytes()].into_iter())
    }

    #[test]
    fn a_valid_parent_is_taken_over_and_the_span_is_new() {
        let parent = parse(GIVEN).unwrap();
        assert_eq!(parent.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!((parent.span.to_string().as_str(), parent.is_sampled()), ("b7ad6b7169203331", true));
        let trace = RequestTrace::continued(parent);
        assert_eq!((trace.trace, trace.parent, trace.is_sampled()), (parent.trace, Some(parent.span), true));
        assert_ne!(trace.request_span(), parent.span);
        let unsampled = parse(&GIVEN.replace("-01", "-00")).unwrap();
        assert!(!RequestTrace::continued(unsampled).is_sampled());
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known_and_answered_in_ours() {
        for longer in ["01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more", &GIVEN.replacen("00", "cc", 1)] {
            let trace = RequestTrace::continued(parse(longer).unwrap());
            let text = trace.traceparent(trace.request_span());
            assert!(text.starts_with(b"00-0af7651916cd43dd8448eb211c80319c-") && text.ends_with(b"-01"));
        }
    }

    #[test]
    fn what_is_invalid_is_as_if_it_was_not_there() {
        for invalid in [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0g",
            "00_0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331_01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01.more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert_eq!(parse(invalid), None, "{invalid}");
        }
        assert_eq!(RemoteParent::of([GIVEN.as_bytes(); 2].into_iter()), None, "two parents are none");
    }

    #[test]
    fn only_flags_that_are_known_are_passed_on() {
        for (given, passed) in [("ff", "03"), ("fe", "02"), ("01", "01"), ("08", "00")] {
            let trace = RequestTrace::continued(parse(&GIVEN.replace("-01", &format!("-{given}"))).unwrap());
            let text = trace.traceparent(trace.leg_span(0));
            assert!(text.ends_with(passed.as_bytes()), "{given}");
        }
    }

    #[test]
    fn no_two_spans_of_a_request_have_the_same_id() {
        let trace = RequestTrace::begun(|_| true);
        let ids: HashSet<_> = (0..10_000).map(|n| trace.leg_span(n)).chain([trace.request_span()]).collect();
        assert_eq!(ids.len(), 10_001);
    }

    proptest! {
        /// No bytes cause a panic, and what is written is read as the same.
        #[test]
        fn what_is_written_is_read(bytes in prop::collection::vec(any::<u8>(), 0..80), index in 0_usize..9, sampled: bool) {
            let _ = RemoteParent::of([bytes.as_slice()].into_iter());
            let trace = RequestTrace::begun(|_| sampled);
            let mut text = trace.traceparent(trace.request_span());
            text[PARENT_AT..PARENT_AT + PARENT_BYTES].copy_from_slice(&trace.leg_span(index).to_hex());
            let read = RemoteParent::parse(&text).unwrap();
            prop_assert_eq!((read.trace, read.span, read.is_sampled()), (trace.trace, trace.leg_span(index), sampled));
        }
    }
}
