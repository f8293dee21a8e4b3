//! What must hold for requests, frames and responses of HTTP/2.

use bytes::BytesMut;
use h2client::frame::{FrameHeader, HEADER_BYTES};
use h2client::{Connection, Event, hpack};
use proxy::bench::headers::{self, Forwarding};
use proxy::bench::http::Fields;
use proxy::bench::http::request::RequestHead;
use proxy::bench::http2::guard::FrameGuard;
use proxy::bench::http2::translate;
use proxy::config::HeadLimits;

use super::{BOUNDS, STOPS_HERE, is_clean};

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

/// What an endpoint sends over HTTP/2 after its first SETTINGS, on a connection with three requests.
pub fn http2_responses(input: &[u8]) {
    let whole = events(input, input.len().max(1));
    for step in [1, 2, 7, 100] {
        assert_eq!(events(input, step), whole, "pieces of {step}");
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
                    match &event {
                        Event::Data { stream, data, .. } => connection.consumed(*stream, data.len()),
                        Event::Piece { stream, .. } => {
                            seen.push(connection.piece().escape_ascii().to_string());
                            connection.consumed(*stream, connection.piece().len());
                        }
                        _ => {}
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
