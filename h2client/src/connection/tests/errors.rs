//! Each frame that is wrong is the error that the RFC names, of the connection or of a stream.

use super::*;

#[test]
fn frames_that_are_wrong_end_the_connection() {
    let data = |stream, payload: &[u8]| frame(kind::DATA, 0, stream, payload);
    let open_block = frame(kind::HEADERS, 0, 1, b"\x88");
    let goaway = |last: u32| frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), [0; 4]].concat());
    let most = (1 << 31) - 1;
    let (protocol, size) = (Reason::PROTOCOL_ERROR, Reason::FRAME_SIZE_ERROR);
    let cases: Vec<(&str, Reason, Vec<u8>)> = vec![
        ("DATA of no stream", protocol, data(0, b"x")),
        ("DATA of an idle stream", protocol, data(3, b"x")),
        ("DATA of a stream of the server's", protocol, data(2, b"x")),
        ("DATA with padding as long as it", protocol, frame(kind::DATA, flag::PADDED, 1, b"\x05abcd")),
        ("padded DATA of nothing", size, frame(kind::DATA, flag::PADDED, 1, b"")),
        ("HEADERS of no stream", protocol, head(0, 0, "200", &[])),
        ("HEADERS of an idle stream", protocol, head(3, 0, "200", &[])),
        ("HEADERS of a stream of the server's", protocol, head(2, 0, "200", &[])),
        (
            "HEADERS with too much padding",
            protocol,
            frame(kind::HEADERS, flag::PADDED | flag::END_HEADERS, 1, b"\x02\x88"),
        ),
        ("HEADERS without its padding", size, frame(kind::HEADERS, flag::PADDED, 1, b"")),
        ("HEADERS without its priority", size, frame(kind::HEADERS, flag::PRIORITY, 1, b"\0\0\0\0")),
        (
            "fields that cannot be decoded",
            Reason::COMPRESSION_ERROR,
            frame(kind::HEADERS, flag::END_HEADERS, 1, b"\xff\xff"),
        ),
        ("CONTINUATION of nothing", protocol, frame(kind::CONTINUATION, 0, 1, b"")),
        (
            "CONTINUATION of another stream",
            protocol,
            [open_block.clone(), frame(kind::CONTINUATION, 4, 3, b"")].concat(),
        ),
        ("PING in a block", protocol, [open_block.clone(), frame(kind::PING, 0, 0, &[0; 8])].concat()),
        ("an unknown frame in a block", protocol, [open_block, frame(0x77, 0, 0, b"")].concat()),
        ("PRIORITY of no stream", protocol, frame(kind::PRIORITY, 0, 0, &[0; 5])),
        ("PRIORITY of a wrong length", size, frame(kind::PRIORITY, 0, 99, &[0; 4])),
        ("RST_STREAM of no stream", protocol, frame(kind::RST_STREAM, 0, 0, &[0; 4])),
        ("RST_STREAM of an idle stream", protocol, frame(kind::RST_STREAM, 0, 3, &[0; 4])),
        ("RST_STREAM of a wrong length", size, frame(kind::RST_STREAM, 0, 1, &[0; 5])),
        ("SETTINGS of a stream", protocol, frame(kind::SETTINGS, 0, 1, b"")),
        ("SETTINGS of a wrong length", size, frame(kind::SETTINGS, 0, 0, &[0; 5])),
        ("SETTINGS in an acknowledgement", size, frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])),
        ("a second acknowledgement", protocol, frame(kind::SETTINGS, flag::ACK, 0, b"").repeat(2)),
        ("push of a server", protocol, settings(&[(setting::ENABLE_PUSH, 1)])),
        (
            "a first window that is too large",
            Reason::FLOW_CONTROL_ERROR,
            settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]),
        ),
        ("frames that are too short", protocol, settings(&[(setting::MAX_FRAME_SIZE, 16_383)])),
        ("frames that are too long", protocol, settings(&[(setting::MAX_FRAME_SIZE, 1 << 24)])),
        (
            "a window made too large",
            Reason::FLOW_CONTROL_ERROR,
            [window_update(1, most - 65_535), settings(&[(setting::INITIAL_WINDOW_SIZE, 65_536)])].concat(),
        ),
        ("PUSH_PROMISE", protocol, frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &[0, 0, 0, 2, 0x82])),
        ("PING of a stream", protocol, frame(kind::PING, 0, 1, &[0; 8])),
        ("PING of a wrong length", size, frame(kind::PING, 0, 0, &[0; 7])),
        ("GOAWAY of a stream", protocol, frame(kind::GOAWAY, 0, 1, &[0; 8])),
        ("GOAWAY of a wrong length", size, frame(kind::GOAWAY, 0, 0, &[0; 7])),
        ("GOAWAY that takes more again", protocol, [goaway(1), goaway(3)].concat()),
        ("WINDOW_UPDATE of a wrong length", size, frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3])),
        ("WINDOW_UPDATE of nothing", protocol, window_update(0, 0)),
        ("WINDOW_UPDATE of too much", Reason::FLOW_CONTROL_ERROR, window_update(0, most)),
        ("WINDOW_UPDATE of an idle stream", protocol, window_update(3, 1)),
        ("a frame that is too long", size, [0, 0x40, 1, kind::DATA, 0, 0, 0, 0, 1].to_vec()),
    ];
    for (name, want, bytes) in cases {
        let mut side = Side::new(&[]);
        side.open(true);
        side.sent();
        assert_eq!(side.reason(&bytes), want, "{name}");
    }
}

#[test]
fn the_first_frame_is_settings() {
    for first in
        [frame(kind::PING, 0, 0, &[0; 8]), frame(kind::SETTINGS, flag::ACK, 0, b""), b"HTTP/1.1 400 Bad".to_vec()]
    {
        let mut side = Side { connection: Connection::new(CONFIG), input: BytesMut::new() };
        assert_eq!(side.take(&first).unwrap_err().reason, Reason::PROTOCOL_ERROR);
    }
}

#[test]
fn what_is_wrong_on_a_stream_ends_that_stream_alone() {
    let ends = flag::END_STREAM;
    let ok = |flags, fields: &[(&str, &str)]| head(1, flags, "200", fields);
    let data = |flags, payload: &[u8]| frame(kind::DATA, flags, 1, payload);
    let protocol = Reason::PROTOCOL_ERROR;
    let cases: Vec<(&str, Reason, Vec<u8>)> = vec![
        ("no status", protocol, trailers(1, 0, &[("a", "b")])),
        ("a status that is none", protocol, head(1, 0, "2x0", &[])),
        ("two statuses", protocol, ok(0, &[(":status", "200")])),
        ("a name in upper case", protocol, ok(0, &[("X", "y")])),
        ("a line end in a value", protocol, ok(0, &[("x", "a\r\nb: c")])),
        ("a field of connections", protocol, ok(0, &[("connection", "close")])),
        ("a list that is too long", protocol, ok(0, &[("x", "y"); 65])),
        ("an interim response that ends", protocol, head(1, ends, "103", &[])),
        ("another protocol", protocol, head(1, 0, "101", &[])),
        ("DATA before the head", protocol, data(0, b"x")),
        ("DATA after an interim head", protocol, [head(1, 0, "103", &[]), data(0, b"x")].concat()),
        ("more than was said", protocol, [ok(0, &[("content-length", "1")]), data(0, b"xx")].concat()),
        ("less than was said", protocol, [ok(0, &[("content-length", "3")]), data(ends, b"xx")].concat()),
        ("nothing of what was said", protocol, ok(ends, &[("content-length", "3")])),
        ("less before trailers", protocol, [ok(0, &[("content-length", "3")]), trailers(1, ends, &[])].concat()),
        ("DATA that 204 has not", protocol, [head(1, 0, "204", &[]), data(0, b"x")].concat()),
        ("fields in the middle", protocol, [ok(0, &[]), trailers(1, 0, &[("a", "b")])].concat()),
        ("a status in trailers", protocol, [ok(0, &[]), ok(ends, &[])].concat()),
        ("WINDOW_UPDATE of nothing", protocol, window_update(1, 0)),
        ("WINDOW_UPDATE of too much", Reason::FLOW_CONTROL_ERROR, window_update(1, (1 << 31) - 1)),
        ("PRIORITY of a wrong length", Reason::FRAME_SIZE_ERROR, frame(kind::PRIORITY, 0, 1, &[0; 4])),
        ("DATA after the end", Reason::STREAM_CLOSED, [ok(ends, &[]), data(0, b"x")].concat()),
        ("HEADERS after the end", Reason::STREAM_CLOSED, [ok(ends, &[]), trailers(1, ends, &[])].concat()),
        (
            "more than the window",
            Reason::FLOW_CONTROL_ERROR,
            [ok(0, &[]), data(0, &[0; 16_384]).repeat(4), data(0, b"x")].concat(),
        ),
    ];
    for (name, want, bytes) in cases {
        let mut side = Side::new(&[]);
        let (key, other) = (side.open(false), side.open(true));
        side.sent();
        let events = side.take(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
        let is_told =
            matches!(events.last(), Some(Event::Malformed(told, error)) if *told == key && error.reason == want);
        assert!(is_told, "{name}: {events:?}");
        assert_eq!(side.resets(), [(1, want)], "{name}");
        assert!(!side.connection.is_sending(key) && side.connection.room(key, 1) == 0, "{name}");
        side.connection.release(key);
        // Late frames are passed over, and the other stream goes on.
        let late = [ok(0, &[]), frame(kind::RST_STREAM, 0, 1, &[0; 4]), head(3, ends, "200", &[])].concat();
        assert_eq!(side.take(&late).unwrap(), [Event::Head { stream: other, ends: true }], "{name}");
        assert_eq!(side.resets(), [], "{name}");
    }
}
