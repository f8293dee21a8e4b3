//! What must hold for any input of the parsers: panics where it does not. Used by the fuzz targets, and by a test that feeds the
//! corpus through on any toolchain.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use access::by::By;
use access::tokens::{Tokens, is_name};
use bytes::{Bytes, BytesMut};
use h2client::frame::{FrameHeader, HEADER_BYTES};
use h2client::{Connection, Event, hpack};
use proxy::bench::control::Control;
use proxy::bench::grpc;
use proxy::bench::headers::{self, Forwarding};
use proxy::bench::http::chunked::{ChunkHead, Decoded, Decoder, LAST_CHUNK};
use proxy::bench::http::request::RequestHead;
use proxy::bench::http::response::ResponseHead;
use proxy::bench::http::{Bounds, Fields, HeadScanner, Overrun, Scan};
use proxy::bench::http2::guard::FrameGuard;
use proxy::bench::http2::translate;
use proxy::bench::table::{RouteEntry, Table};
use proxy::config::{
    AccessLog, Allow, Changes, Config, FieldEdits, HeadLimits, Ignore, Ignored, Limits, Listener, Match, Policy, Route,
};
use proxy::proxy_protocol::{Addresses, Front, MAX_HEADER, parse};
use serde_json::Value;
use snapshot::{Change, Cluster, ClusterName, Endpoint, PodRef};

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
    assert_same(input, |buffer| ResponseHead::take(buffer, &BOUNDS, &mut Fields::default()), ResponseHead::parse);
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

/// The head of a request of HTTP/2, as its decoder hands it over: a line with the method, one with the URI, and one for each field.
fn parts(input: &[u8]) -> Option<http::request::Parts> {
    let mut lines = input.split(|b| *b == b'\n');
    let mut request = http::Request::new(());
    *request.method_mut() = http::Method::from_bytes(lines.next()?).ok()?;
    *request.uri_mut() = http::Uri::try_from(lines.next()?).ok()?;
    for line in lines {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let name = http::HeaderName::from_bytes(&line[..colon]);
        if let (Ok(name), Ok(value)) = (name, http::HeaderValue::from_bytes(&line[colon + 1..])) {
            request.headers_mut().append(name, value);
        }
    }
    Some(request.into_parts().0)
}

/// The values of the fields with this name.
fn values<'a>(fields: &'a [(Vec<u8>, Vec<u8>)], name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|(known, _)| known == name.as_bytes()).map(|(_, value)| &value[..]).collect()
}

/// Heads of requests of HTTP/2, and what legs make of them.
pub fn http2_head(input: &[u8]) {
    let Some(parts) = parts(input) else { return };
    let bounds = HeadLimits { target: BOUNDS.first_line, bytes: BOUNDS.bytes, fields: BOUNDS.fields };
    for ends in [true, false] {
        let Ok(head) = translate::request_head(&parts, ends, &bounds, false) else {
            continue;
        };
        assert_eq!(head.method(), parts.method.as_str().as_bytes());
        assert!(head.target().iter().all(u8::is_ascii_graphic) && !head.target().is_empty());
        assert_eq!(head.fields.all("host").count(), 1);
        let forwarding = Forwarding {
            client: "127.0.0.1",
            via: "fanfare-test",
            host: Some("192.0.2.1:80"),
            ..Forwarding::default()
        };
        let leg = headers::leg_head(&head, &forwarding);
        assert!(is_clean(&leg), "{}", leg.escape_ascii());
        let again = RequestHead::parse(leg.clone(), usize::MAX, Fields::default());
        let again = again.unwrap_or_else(|error| panic!("not a head ({error}): {}", leg.escape_ascii()));
        assert_eq!((again.method(), again.target()), (head.method(), head.target()));
        for name in STOPS_HERE {
            assert_eq!(again.fields.all(name).count(), 0, "{name}: {}", leg.escape_ascii());
        }
        // To an endpoint that speaks HTTP/2 it is the same request, where it can be said there.
        let mut block = Vec::new();
        if translate::put_request(&mut block, &leg).is_err() {
            continue;
        }
        let mut fields = Vec::new();
        let decoded =
            hpack::Decoder::default().decode(&block, |name, value| fields.push((name.to_vec(), value.to_vec())));
        decoded.unwrap_or_else(|error| panic!("not a block ({error}): {}", leg.escape_ascii()));
        assert_eq!(values(&fields, ":method"), [again.method()]);
        assert_eq!(values(&fields, ":path"), [again.target()]);
        assert_eq!(values(&fields, ":authority").first().copied(), again.host().filter(|host| !host.is_empty()));
        for name in ["host", "connection", "transfer-encoding", "upgrade", "keep-alive"] {
            assert!(values(&fields, name).is_empty(), "{name}: {fields:?}");
        }
        assert!(fields.iter().skip_while(|(name, _)| name.starts_with(b":")).all(|(name, _)| !name.starts_with(b":")));
        assert!(fields.iter().all(|(name, _)| !name.iter().any(u8::is_ascii_uppercase)), "{fields:?}");
    }
}

/// Frames of HTTP/2: how they are cut on their way makes no difference to what is made of them.
pub fn http2_frames(input: &[u8]) {
    let now = std::time::Instant::now().into();
    for guard in [FrameGuard::of_endpoint, || FrameGuard::new(0), || FrameGuard::new(24)] {
        let whole = guard().see(input, now);
        for step in [1, 2, 7, 10] {
            let mut cut = guard();
            let seen = input.chunks(step).try_for_each(|piece| cut.see(piece, now));
            assert_eq!(seen, whole, "pieces of {step}");
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

/// Rules that say who may: as a whole, and what stands behind `by`.
pub fn allow_rule(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(Allow { by, .. }) = text.parse::<Allow>() {
        shown_is_read_alike(&by);
    }
    if let Ok(by) = text.parse::<By>() {
        assert!(!by.is_anyone(), "a rule with identities takes nobody but those");
        shown_is_read_alike(&by);
    }
}

fn shown_is_read_alike(by: &By) {
    let shown = by.to_string();
    assert_eq!(shown.is_empty(), by.is_anyone());
    let Some(text) = shown.strip_prefix("by ") else { return };
    match text.parse::<By>() {
        Ok(again) => {
            assert_eq!(again.to_string(), shown);
            assert_eq!(again.grants_control(), by.grants_control());
            assert_eq!(again.patterns().len(), by.patterns().len());
        }
        Err(error) => panic!("{shown:?} cannot be read: {error}"),
    }
}

/// Files of tokens.
pub fn token_file(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let entries = lines.filter_map(|line| line.split_once(':')).map(|(name, token)| (name.trim(), token.trim()));
    match Tokens::parse(input) {
        Ok(tokens) => {
            assert!(!tokens.holders().is_empty() && tokens.short().len() <= tokens.holders().len());
            let known: Vec<_> = entries.collect();
            assert_eq!(known.len(), tokens.holders().len(), "each line is one");
            for (name, token) in known.into_iter().filter(|(_, token)| !token.starts_with("sha256:")) {
                let holder = tokens.holder(token).unwrap_or_else(|| panic!("the token of {name:?} is not known"));
                assert_eq!(holder.as_str(), format!("token:{name}"));
            }
            assert_eq!(tokens.holder(""), None);
        }
        Err(error) => {
            let told = error.to_string();
            // What is as long as a token is none of the words of an error.
            let is_token = |(name, token): &(&str, &str)| is_name(name) && token.len() >= 64 && !name.contains(token);
            assert!(!entries.filter(is_token).any(|(_, token)| told.contains(token)), "an error shows a token");
        }
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

/// A route to four endpoints in two zones.
fn route() -> &'static Arc<RouteEntry> {
    static ROUTE: OnceLock<Arc<RouteEntry>> = OnceLock::new();
    ROUTE.get_or_init(|| {
        let name = ClusterName::new("cache").expect("a name");
        let endpoint = |n: u8| Endpoint {
            zone: Some(if n < 2 { "a" } else { "b" }.into()),
            node: Some(format!("n{}", n % 2).into()),
            pod: Some(PodRef { namespace: "shop".into(), name: format!("cache-{n}").into(), uid: "".into() }),
            ..Endpoint::ready(([10, 0, 0, n], 80).into())
        };
        let (publisher, reader) = snapshot::channel();
        publisher.apply([Change::Set(Arc::new(Cluster::new(name.clone(), (0..4).map(endpoint).collect())))]);
        let route = Route {
            name: "cache".into(),
            matches: Match::default(),
            cluster: name,
            changes: Changes::default(),
            policy: Policy::default(),
        };
        let config = Config {
            reuse_port: false,
            listeners: vec![Listener::new(([127, 0, 0, 1], 0).into(), vec![route])],
            threads: 1,
            limits: Limits::default(),
            access_log: AccessLog::Off,
            endpoint_metrics: None,
            tracing: None,
        };
        let table = Table::build(None, &Arc::new(config), &reader.load(), &[], &Arc::default(), &Arc::default());
        table.listeners[0].routes[0].clone()
    })
}

/// The fields by which a caller decides how its request is sent: a line for each, whose first byte says which.
pub fn control(input: &[u8]) {
    const NAMES: [&str; 5] = ["Require", "Timeout", "To", "Waves", "Dry-Run"];
    let mut text = b"GET / HTTP/1.1\r\nHost: x\r\n".to_vec();
    for line in input.split(|b| *b == b'\n') {
        let Some((which, value)) = line.split_first() else { continue };
        text.extend_from_slice(format!("X-Broadcast-{}: ", NAMES[usize::from(*which) % NAMES.len()]).as_bytes());
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    let Ok(head) = RequestHead::parse(text.into(), usize::MAX, Fields::default()) else { return };
    let read = Control::read(&head.fields);
    assert_eq!(Control::read(&head.fields), read, "it is read the same way again");
    let told = |error: &dyn std::fmt::Display, status: u16| {
        assert!(matches!(status, 400 | 404) && error.to_string().contains("X-Broadcast-"), "{status}: {error}");
    };
    let control = match read {
        Ok(control) => control,
        Err(error) => return told(&error, error.status()),
    };
    let route = route();
    match control.apply(route) {
        Err(error) => told(&error, error.status()),
        Ok(None) => {}
        Ok(Some(own)) => {
            let there = own.members.len();
            let mut rest = route.members.iter();
            let is_chosen =
                own.members.iter().all(|member| rest.any(|known| Arc::ptr_eq(&known.target, &member.target)));
            assert!(there > 0 && is_chosen, "some of the route's, in their order, each once");
            let policy = &own.config.policy;
            assert!(policy.require.required(there) <= there);
            assert!(policy.timeouts.total <= route.config.policy.timeouts.total && !policy.timeouts.total.is_zero());
        }
    }
}

/// What may differ in bodies: a line with what is to be ignored, and the body.
pub fn compare_ignore(input: &[u8]) {
    let Some(end) = input.iter().position(|b| *b == b'\n') else { return };
    let (Ok(text), body) = (std::str::from_utf8(&input[..end]), &input[end + 1..]) else { return };
    let ignored = match text.parse::<Ignored>() {
        Ok(ignored) => ignored,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(ignored.to_string(), text);
    let pointer = if let Ignored::Pointer(pointer) = &ignored { Some(pointer.clone()) } else { None };
    let ignore: Ignore = [ignored].into_iter().collect();
    let rest = ignore.apply(body);
    let Some(pointer) = pointer else { return assert!(rest.len() <= body.len(), "nothing is added") };
    let Ok(mut document) = serde_json::from_slice::<Value>(body) else {
        return assert!(matches!(rest, Cow::Borrowed(same) if same == body), "what is no JSON stays as it is");
    };
    let before = document.clone();
    pointer.remove(&mut document);
    assert_eq!(rest, document.to_string().as_bytes(), "JSON without what is ignored");
    match before.pointer(text) {
        None => assert_eq!(document, before, "nothing is there"),
        Some(_) => assert!(matches!(document.pointer(text), None | Some(Value::Null)), "{document}"),
    }
}

/// What an endpoint sends over HTTP/2 after its first SETTINGS, on a connection with three requests.
pub fn http2_responses(input: &[u8]) {
    let whole = events(input, input.len().max(1));
    for step in [1, 2, 7, 100] {
        assert_eq!(events(input, step), whole, "pieces of {step}");
    }
}

/// What happens when this comes in pieces of this length, and what is sent because of it.
fn events(input: &[u8], step: usize) -> (Vec<String>, Vec<u8>) {
    let config = h2client::Config {
        stream_window: 65_536,
        connection_window: 1 << 20,
        max_fields_bytes: 4_096,
        max_fields: 32,
        send_buffer: 1_000,
        max_streams: 100,
    };
    let (mut connection, mut buffer) = (Connection::new(config), BytesMut::new());
    let mut seen = Vec::new();
    let mut keys = Vec::new();
    for piece in [&[0, 0, 0, 4, 0, 0, 0, 0, 0][..]].into_iter().chain(input.chunks(step)) {
        buffer.extend_from_slice(piece);
        loop {
            match connection.receive(&mut buffer) {
                Ok(None) => break,
                Err(error) => {
                    seen.push(error.to_string());
                    assert!(connection.receive(&mut buffer).is_err() && !connection.takes_streams());
                    return (seen, output(&mut connection));
                }
                Ok(Some(event)) => {
                    if let Event::Head { .. } | Event::Trailers(_) = event {
                        assert!(is_clean(&[b"X: y\r\n", connection.lines(), b"\r\n"].concat()));
                        seen.push(connection.lines().escape_ascii().to_string());
                    }
                    if let Event::Data { stream, data, .. } = &event {
                        connection.consumed(*stream, data.len());
                    }
                    seen.push(format!("{event:?}"));
                }
            }
        }
        while keys.len() < 3 {
            keys.push(connection.open(&[b"\x82\x84\x86"], keys.len() == 2, false).expect("the first ones"));
        }
    }
    for key in keys {
        let room = connection.room(key, 10_000);
        assert!(room <= 1_000);
        connection.send_data(key, vec![b'x'; room].into(), true);
        connection.release(key);
    }
    assert_eq!(connection.open_streams(), 0);
    (seen, output(&mut connection))
}

/// What waits to be sent, which must be whole frames.
fn output(connection: &mut Connection) -> Vec<u8> {
    let mut all = Vec::new();
    while connection.has_output() {
        let mut slices = [std::io::IoSlice::new(&[]); 3];
        let used = connection.fill(&mut slices);
        let bytes: Vec<u8> = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect();
        connection.written(bytes.len());
        all.extend(bytes);
    }
    let mut rest = all.strip_prefix(h2client::frame::PREFACE).expect("it is first");
    while let Some(header) = FrameHeader::read(rest) {
        rest = &rest[HEADER_BYTES + header.length..];
    }
    assert!(rest.is_empty());
    all
}
