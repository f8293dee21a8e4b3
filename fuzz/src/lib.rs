//! What must hold for any input of the parsers: panics where it does not. Used by the fuzz targets, and by a test that feeds the
//! corpus through on any toolchain.

mod http2;
mod rules;

use bytes::{Bytes, BytesMut};
use proxy::bench::grpc;
use proxy::bench::headers::{self, Forwarding};
use proxy::bench::http::chunked::{ChunkHead, Decoded, Decoder, LAST_CHUNK};
use proxy::bench::http::request::RequestHead;
use proxy::bench::http::response::ResponseHead;
use proxy::bench::http::{Bounds, Fields, HeadScanner, LastHead, Overrun, Scan};
use proxy::config::FieldEdits;
use proxy::proxy_protocol::{Addresses, Front, MAX_HEADER, parse};

pub use http2::{http2_frames, http2_head, http2_responses};
pub use rules::{allow_rule, compare_ignore, control, token_file};

/// Bounds as a listener has them by default.
const BOUNDS: Bounds = Bounds { first_line: 16 << 10, bytes: 64 << 10, fields: 128 };

/// What no endpoint may ever see of a client's head.
const STOPS_HERE: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "x-broadcast-result",
];

/// The head at the front of the input, as the scanner finds it: in one piece, and byte by byte with the same result.
fn head(input: &[u8]) -> Result<Option<Bytes>, Overrun> {
    let whole = HeadScanner::default().scan(input, &BOUNDS);
    let mut scanner = HeadScanner::default();
    let mut dripped = Ok(Scan::Partial);
    for end in 1..=input.len() {
        dripped = scanner.scan(&input[..end], &BOUNDS);
        if dripped != Ok(Scan::Partial) {
            break;
        }
    }
    match (whole, dripped) {
        (Ok(one), Ok(other)) => assert_eq!(one, other, "in one piece and byte by byte"),
        // Which bound is broken first may depend on the pieces; that one is does not.
        (one, other) => assert!(one.is_err() && other.is_err(), "{one:?} in one piece, {other:?} byte by byte"),
    }
    Ok(match whole? {
        Scan::Complete(length) => Some(Bytes::copy_from_slice(&input[..length])),
        Scan::Partial => None,
    })
}

/// Whether every line of a head ends in CRLF and holds no control character.
fn is_clean(head: &[u8]) -> bool {
    let lines = head.strip_suffix(b"\r\n\r\n").map(|lines| lines.split(|b| *b == b'\n'));
    let clean = |line: &[u8]| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        line.iter().all(|b| *b == b'\t' || (*b >= b' ' && *b != 0x7f))
    };
    lines.is_some_and(|mut lines| lines.all(clean))
}

/// What taking a head in one step must agree with: the scan for its end, then the parse. Where it takes nothing, it leaves
/// all of the input.
fn assert_same<T: std::fmt::Debug>(
    input: &[u8],
    take: impl FnOnce(&mut BytesMut) -> Option<T>,
    parse: impl FnOnce(Bytes) -> T,
) {
    let mut buffer = BytesMut::from(input);
    let Some(taken) = take(&mut buffer) else { return assert_eq!(buffer, input) };
    let bytes = head(input).ok().flatten().expect("what can be taken is a whole head");
    assert_eq!(buffer, input[bytes.len()..], "what follows the head");
    // All that there is to know about a head, its bytes included.
    assert_eq!(format!("{taken:?}"), format!("{:?}", parse(bytes)));
}

fn request(input: &[u8]) -> Option<RequestHead> {
    let most = BOUNDS.first_line;
    assert_same(
        input,
        |buffer| {
            let taken = RequestHead::take(buffer, &BOUNDS, most, &mut Fields::default())?;
            Some(taken.map_err(|(error, _)| error))
        },
        |bytes| RequestHead::parse(bytes, most, Fields::default()),
    );
    let bytes = head(input).ok()??;
    let parsed = RequestHead::parse(bytes.clone(), BOUNDS.first_line, Fields::default());
    if let Err(error) = &parsed {
        assert!((400..=599).contains(&error.status()) && !error.to_string().is_empty());
    }
    let parsed = parsed.ok()?;
    assert!(is_clean(&bytes), "accepted with a control character in it: {}", bytes.escape_ascii());
    let target = parsed.target();
    assert!(!parsed.method().is_empty() && !target.is_empty() && target.iter().all(u8::is_ascii_graphic));
    Some(parsed)
}

/// Request heads.
pub fn request_head(input: &[u8]) {
    request(input);
}

/// Response heads.
pub fn response_head(input: &[u8]) {
    let mut last = LastHead::default();
    // The second time it is a repetition.
    for _ in 0..2 {
        let take = |buffer: &mut BytesMut| {
            let mut head = ResponseHead::default();
            Some(head.take(buffer, &BOUNDS, &mut last)?.map(|()| head))
        };
        assert_same(input, take, ResponseHead::parse);
    }
    let Ok(Some(bytes)) = head(input) else { return };
    let Ok(parsed) = ResponseHead::parse(bytes.clone()) else { return };
    assert!(is_clean(&bytes), "accepted with a control character in it: {}", bytes.escape_ascii());
    assert!((100..=599).contains(&parsed.status) && parsed.status != 101);
    // What goes on to the client parses again, as the same answer.
    let mut out = BytesMut::new();
    headers::put_answer(&mut out, &parsed, headers::AnswerFraming::Length(3), &FieldEdits::default());
    out.extend_from_slice(b"\r\n");
    let again = ResponseHead::parse(out.freeze()).expect("a head that was passed on is a head");
    assert_eq!((again.status, again.reason()), (parsed.status, parsed.reason()));
    assert_eq!(again.framing, proxy::bench::http::Framing::Length(3));
}

/// Decodes with the input cut into pieces: the data, and what is left behind the end where there is one.
fn decode(input: &[u8], step: usize) -> (Vec<u8>, Option<Vec<u8>>, bool) {
    let (mut decoder, mut buffer, mut data) = (Decoder::default(), BytesMut::new(), Vec::new());
    let mut rest = input;
    loop {
        match decoder.decode(&mut buffer) {
            Err(_) => return (data, None, true),
            Ok(Decoded::Data(piece)) => {
                assert!(!piece.is_empty(), "an empty piece would spin");
                data.extend_from_slice(&piece);
            }
            Ok(Decoded::End) => return (data, Some([&buffer, rest].concat()), false),
            Ok(Decoded::Partial) if rest.is_empty() => return (data, None, false),
            Ok(Decoded::Partial) => {
                let (piece, after) = rest.split_at(step.min(rest.len()));
                buffer.extend_from_slice(piece);
                rest = after;
            }
        }
    }
}

/// Chunked bodies.
pub fn chunked(input: &[u8]) {
    let (data, behind, failed) = decode(input, input.len().max(1));
    for step in [1, 2, 3, 7] {
        let cut = decode(input, step);
        // A fault may be seen before all data in front of it was; never may data differ.
        assert_eq!(cut.2, failed, "pieces of {step}");
        assert!(failed || cut.0 == data, "pieces of {step}");
        assert_eq!(cut.1, behind, "pieces of {step}");
    }
    if behind.is_some() {
        let mut wire = Vec::new();
        for chunk in data.chunks(100) {
            wire.extend_from_slice(ChunkHead::of(chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(LAST_CHUNK);
        assert_eq!(decode(&wire, 64), (data, Some(Vec::new()), false));
    }
}

/// The heads that endpoints would get for a client's head.
pub fn leg_heads(input: &[u8]) -> Vec<Bytes> {
    let Some(head) = request(input) else { return Vec::new() };
    let mut made = Vec::new();
    for trusted in [false, true] {
        for report in [false, true] {
            let forwarding = Forwarding {
                client: "127.0.0.1",
                trusted,
                via: "fanfare-test",
                id: head.fields.all("x-request-id").next().is_none().then_some("id-1"),
                report,
                host: Some("192.0.2.1:80"),
                ..Forwarding::default()
            };
            made.push(headers::leg_head(&head, &forwarding));
        }
    }
    made
}

/// The heads of legs.
pub fn leg_head(input: &[u8]) {
    let Some(head) = request(input) else { return };
    for bytes in leg_heads(input) {
        let shown = bytes.escape_ascii().to_string();
        assert!(is_clean(&bytes), "{shown}");
        let parsed = RequestHead::parse(bytes, usize::MAX, Fields::default());
        let leg = parsed.unwrap_or_else(|error| panic!("not a head ({error}): {shown}"));
        assert_eq!((leg.method(), leg.framing), (head.method(), head.framing), "{shown}");
        assert!(leg.target().ends_with(head.target()), "{shown}");
        let (host, meant) = (leg.host().expect("one"), head.host().unwrap_or(b"192.0.2.1:80"));
        assert!(host.eq_ignore_ascii_case(meant), "{shown}");
        assert!(leg.keepalive && !leg.expects_continue, "{shown}");
        assert_eq!(leg.fields.all("x-forwarded-for").count(), 1, "{shown}");
        assert!(headers::has_passed(&leg, "fanfare-test"), "{shown}");
        for name in STOPS_HERE {
            assert_eq!(leg.fields.all(name).count(), 0, "{name}: {shown}");
        }
    }
}

/// Headers of the PROXY protocol.
pub fn proxy_header(input: &[u8]) {
    let whole = parse(input);
    for end in 0..input.len() {
        let part = parse(&input[..end]);
        assert!(part == Ok(Front::Partial) || part == whole, "{part:?} of {end} bytes, then {whole:?}");
        assert!(part != Ok(Front::Partial) || end < MAX_HEADER, "more than the longest header is waited for");
    }
    let Ok(Front::Header(header)) = whole else { return };
    assert!(header.length <= input.len().min(MAX_HEADER));
    assert_eq!(parse(&input[..header.length]), whole, "what follows makes no difference");
    let Some(Addresses { source, destination }) = header.addresses else { return };
    assert_eq!(source.is_ipv4(), destination.is_ipv4());
    let family = if source.is_ipv4() { 4 } else { 6 };
    let (ip, to, from, port) = (source.ip(), destination.ip(), source.port(), destination.port());
    let line = format!("PROXY TCP{family} {ip} {to} {from} {port}\r\n");
    match parse(line.as_bytes()) {
        Ok(Front::Header(again)) => assert_eq!(again.addresses, header.addresses),
        other => panic!("{line:?} is read as {other:?}"),
    }
}

/// Fields of gRPC: the time that a caller gives, and the status of an answer.
pub fn grpc_fields(input: &[u8]) {
    if let Some(time) = grpc::timeout(input) {
        let value = grpc::timeout_value(time);
        let again = grpc::timeout(value.as_bytes()).unwrap_or_else(|| panic!("{value} cannot be read"));
        assert!(again <= time, "{value} is longer than {time:?}");
    }
    for code in [grpc::status(input), grpc::status_in(input)].into_iter().flatten() {
        assert!(code <= grpc::UNAUTHENTICATED, "{code} is no status");
        // What is told of it is read alike, whatever the message.
        let lines = grpc::trailer_lines(code, &String::from_utf8_lossy(input));
        assert_eq!(grpc::status_in(&lines), Some(code));
        assert_eq!(lines.iter().filter(|b| **b == b'\n').count(), 2, "{}", lines.escape_ascii());
        assert!(lines.iter().all(|b| matches!(b, b' '..=b'~' | b'\r' | b'\n')), "{}", lines.escape_ascii());
    }
}
