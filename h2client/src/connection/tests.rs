//! Each frame that is wrong is the error that the RFC names, windows are kept to, and what goes out is what was meant.

use std::io::IoSlice;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::{
    block::{self, Scheme},
    frame::flag,
};

const CONFIG: Config = Config {
    stream_window: 65_536,
    connection_window: 1 << 20,
    max_fields_bytes: 16_384,
    max_fields: 64,
    send_buffer: 65_536,
    max_streams: 100,
};

/// A connection whose peer has sent its settings.
struct Side {
    connection: Connection,
    input: BytesMut,
}

/// A frame, as it was sent.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    FrameHeader { length: payload.len(), kind, flags, stream }.put(&mut out);
    out.extend_from_slice(payload);
    out
}

fn settings(all: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> =
        all.iter().flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat()).collect();
    frame(kind::SETTINGS, 0, 0, &payload)
}

fn window_update(stream: u32, more: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &more.to_be_bytes())
}

/// A head with these fields.
fn head(stream: u32, flags: u8, status: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut payload = Vec::new();
    block::put_field(&mut payload, b":status", status.as_bytes());
    fields.iter().for_each(|(name, value)| block::put_field(&mut payload, name.as_bytes(), value.as_bytes()));
    frame(kind::HEADERS, flags | flag::END_HEADERS, stream, &payload)
}

fn trailers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut payload = Vec::new();
    fields.iter().for_each(|(name, value)| block::put_field(&mut payload, name.as_bytes(), value.as_bytes()));
    frame(kind::HEADERS, flags | flag::END_HEADERS, stream, &payload)
}

impl Side {
    fn new(all: &[(u16, u32)]) -> Self {
        let mut side = Self { connection: Connection::new(CONFIG), input: BytesMut::new() };
        assert_eq!(side.take(&settings(all)).unwrap(), [Event::Settings]);
        side.sent();
        side
    }

    /// What happens when these bytes come.
    fn take(&mut self, bytes: &[u8]) -> Result<Vec<Event>, ConnectionError> {
        self.input.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(event) = self.connection.receive(&mut self.input)? {
            events.push(event);
        }
        Ok(events)
    }

    /// The error that these bytes are.
    fn reason(&mut self, bytes: &[u8]) -> Reason {
        let error = self.take(bytes).unwrap_err();
        let goaway = self.sent().pop().expect("it is told");
        assert_eq!((goaway.kind, goaway.payload[4..8].to_vec()), (kind::GOAWAY, error.reason.0.to_be_bytes().to_vec()));
        assert_eq!(self.take(&settings(&[])), Err(error), "nothing else is read");
        error.reason
    }

    fn open(&mut self, ends: bool) -> Key {
        let mut fields = Vec::new();
        block::put_method(&mut fields, b"POST");
        block::put_path(&mut fields, b"/");
        self.connection.open(&[&Scheme::Http.field(), &fields], ends, false).unwrap()
    }

    /// The bytes that wait, which are sent with it.
    fn bytes(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while self.connection.has_output() {
            let mut slices = [IoSlice::new(&[]); 4];
            let used = self.connection.fill(&mut slices);
            let bytes = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
            self.connection.written(bytes.len());
            all.extend(bytes);
        }
        all
    }

    /// The frames that wait, which are sent with it.
    fn sent(&mut self) -> Vec<Sent> {
        let bytes = self.bytes();
        let mut rest = bytes.strip_prefix(PREFACE).unwrap_or(&bytes);
        let mut frames = Vec::new();
        while let Some(header) = FrameHeader::read(rest) {
            let FrameHeader { length, kind, flags, stream } = header;
            frames.push(Sent { kind, flags, stream, payload: rest[HEADER_BYTES..HEADER_BYTES + length].to_vec() });
            rest = &rest[HEADER_BYTES + length..];
        }
        assert!(rest.is_empty());
        frames
    }

    /// The streams that were reset, and why.
    fn resets(&mut self) -> Vec<(u32, Reason)> {
        let resets = self.sent().into_iter().filter(|frame| frame.kind == kind::RST_STREAM);
        resets.map(|frame| (frame.stream, Reason(crate::frame::number(&frame.payload)))).collect()
    }
}

#[test]
fn the_preface_says_what_is_kept_to() {
    let mut side = Side { connection: Connection::new(CONFIG), input: BytesMut::new() };
    let bytes = side.bytes();
    let rest = bytes.strip_prefix(PREFACE).unwrap();
    let want = [
        settings(&[
            (setting::ENABLE_PUSH, 0),
            (setting::INITIAL_WINDOW_SIZE, 65_536),
            (setting::MAX_HEADER_LIST_SIZE, 16_384),
        ]),
        window_update(0, (1 << 20) - 65_535),
    ];
    assert_eq!(rest, want.concat());
}

#[test]
fn an_exchange_from_its_request_to_its_trailers_however_it_is_cut() {
    let response = [
        head(1, 0, "103", &[("link", "a")]),
        head(1, 0, "200", &[("a", "b"), ("content-length", "4")]),
        frame(kind::DATA, flag::PADDED, 1, b"\x02bo\0\0"),
        frame(0x77, 0xff, 1, b"of no known kind"),
        frame(kind::DATA, 0, 1, b"dy"),
        trailers(1, flag::END_STREAM, &[("c", "d")]),
    ];
    for step in [1, 5, 10_000] {
        let mut side = Side::new(&[]);
        let key = side.open(false);
        assert_eq!(side.connection.room(key, 4), 4);
        side.connection.send_data(key, Bytes::from_static(b"body"), false);
        side.connection.send_trailers(key, b"\0\x01x\x01y");
        let sent = side.sent();
        assert_eq!(sent[0].payload, [block::NO_TABLE, 0x86, 0x83, 0x84], "the first block says that it uses no table");
        let kinds: Vec<(u8, u8, u32)> = sent.iter().map(|frame| (frame.kind, frame.flags, frame.stream)).collect();
        let ends = flag::END_HEADERS | flag::END_STREAM;
        assert_eq!(kinds, [(kind::HEADERS, flag::END_HEADERS, 1), (kind::DATA, 0, 1), (kind::HEADERS, ends, 1)]);
        let mut events = Vec::new();
        let bytes = response.concat();
        for piece in bytes.chunks(step) {
            side.input.extend_from_slice(piece);
            while let Some(event) = side.connection.receive(&mut side.input).unwrap() {
                if let Event::Head { .. } = event {
                    assert_eq!(
                        (side.connection.status(), side.connection.lines()),
                        (200, &b"a: b\r\ncontent-length: 4\r\n"[..])
                    );
                }
                events.push(event);
            }
        }
        let data = |data: &'static [u8]| Event::Data { stream: key, data: Bytes::from_static(data), ends: false };
        let head = Event::Head { stream: key, ends: false };
        assert_eq!(
            events,
            [Event::Interim(key), head, data(b"bo"), data(b"dy"), Event::Trailers(key)],
            "pieces of {step}"
        );
        assert_eq!((side.connection.lines(), side.connection.open_streams()), (&b"c: d\r\n"[..], 0));
        side.connection.release(key);
        assert_eq!(side.sent(), [], "nothing is left to be said");
        let next = side.open(true);
        assert_eq!(next, key, "its place is used again");
        assert_eq!(side.sent()[0].payload, [0x86, 0x83, 0x84]);
    }
}

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

#[test]
fn a_response_without_a_body_may_say_how_long_it_would_be() {
    let mut side = Side::new(&[]);
    let to_head = side.connection.open(&[b"\x82"], true, true).unwrap();
    let other = side.open(true);
    let length = [("content-length", "9")];
    let heads = [head(1, flag::END_STREAM, "200", &length), head(3, flag::END_STREAM, "304", &length)].concat();
    let ended = |stream| Event::Head { stream, ends: true };
    assert_eq!(side.take(&heads).unwrap(), [ended(to_head), ended(other)]);
}

#[test]
fn a_peer_that_sends_on_streams_that_are_gone_is_borne_within_bounds() {
    let ready = || {
        let mut side = Side::new(&[]);
        let key = side.open(true);
        side.connection.release(key);
        assert_eq!(side.resets(), [(1, Reason::CANCEL)]);
        side
    };
    // What its window had room for.
    let mut side = ready();
    assert_eq!(side.take(&head(1, 0, "200", &[])).unwrap(), []);
    assert_eq!(side.take(&frame(kind::DATA, 0, 1, &[0; 16_384]).repeat(4)).unwrap(), []);
    assert_eq!(side.reason(&frame(kind::DATA, 0, 1, b"x")), Reason::FLOW_CONTROL_ERROR);
    let mut side = ready();
    assert_eq!(side.reason(&head(1, 0, "103", &[]).repeat(17)), Reason::ENHANCE_YOUR_CALM);
    // A stream that has ended on both sides has nothing that could be late.
    for late in [frame(kind::DATA, 0, 1, b""), head(1, 0, "200", &[])] {
        for released in [false, true] {
            let mut side = Side::new(&[]);
            let key = side.open(true);
            side.take(&head(1, flag::END_STREAM, "200", &[])).unwrap();
            if released {
                side.connection.release(key);
            }
            assert_eq!(side.reason(&late), Reason::STREAM_CLOSED);
        }
    }
    let mut side = Side::new(&[]);
    let key = side.open(true);
    let reset = frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    assert_eq!(side.take(&reset).unwrap(), [Event::Reset(key, Reason::CANCEL)]);
    assert_eq!(side.take(&[reset, window_update(1, 1)].concat()).unwrap(), []);
    assert_eq!(side.reason(&frame(kind::DATA, 0, 1, b"")), Reason::STREAM_CLOSED);
}

#[test]
fn fields_of_streams_that_are_gone_still_fill_the_table() {
    let mut side = Side::new(&[]);
    let key = side.open(true);
    side.connection.release(key);
    let next = side.open(true);
    let indexed = frame(kind::HEADERS, flag::END_HEADERS, 1, b"\x88\x40\x01a\x01b");
    let referring = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, b"\x88\xbe");
    assert_eq!(side.take(&[indexed, referring].concat()).unwrap(), [Event::Head { stream: next, ends: true }]);
    assert_eq!(side.connection.lines(), b"a: b\r\n");
}

#[test]
fn what_is_taken_is_given_back_and_no_more() {
    let mut side = Side::new(&[]);
    let key = side.open(true);
    side.sent();
    side.take(&head(1, 0, "200", &[])).unwrap();
    let piece = frame(kind::DATA, flag::PADDED, 1, &[&[255][..], &[1; 16_000]].concat());
    side.take(&piece.repeat(3)).unwrap();
    assert_eq!(side.sent(), [], "nothing was taken, and little is padding");
    side.connection.consumed(key, 3 * (16_000 - 255) - 16_000);
    assert_eq!(side.sent(), []);
    side.connection.consumed(key, 16_000);
    let credit: Vec<(u32, u32)> =
        side.sent().iter().map(|sent| (sent.stream, crate::frame::number(&sent.payload))).collect();
    // The padding of every frame, with the byte that says how long it is, was given back with it.
    assert_eq!(credit.iter().map(|(stream, _)| *stream).collect::<Vec<_>>(), [1]);
    assert!(credit[0].1 > 32_768 && credit[0].1 <= 3 * 16_001, "{credit:?}");
    // The connection's window is given back by itself.
    let mut total = 3 * 16_001;
    while side.sent().iter().all(|sent| sent.stream != 0) {
        side.take(&frame(kind::DATA, 0, 1, &[0; 10_000])).unwrap();
        side.connection.consumed(key, 10_000);
        total += 10_000;
        assert!(total <= 1 << 20);
    }
    assert!(total > 1 << 19);
}

#[test]
fn no_more_is_sent_than_windows_allow() {
    let mut side = Side::new(&[(setting::INITIAL_WINDOW_SIZE, 10)]);
    let key = side.open(false);
    assert_eq!(side.connection.room(key, 100), 10);
    side.connection.send_data(key, Bytes::from_static(b"0123456789"), false);
    assert_eq!(side.connection.room(key, 100), 0);
    side.sent();
    // Sending does not widen the window, and who waits is told once.
    assert_eq!(side.connection.next_event(), Some(Event::Room(key)));
    assert_eq!(side.connection.room(key, 100), 0);
    assert_eq!(side.take(&window_update(1, 5)).unwrap(), [Event::Room(key)]);
    assert_eq!(side.connection.room(key, 100), 5);
    // A first window that becomes smaller makes those of streams negative.
    side.take(&settings(&[(setting::INITIAL_WINDOW_SIZE, 0)])).unwrap();
    assert_eq!(side.connection.room(key, 100), 0);
    side.take(&window_update(1, 5)).unwrap();
    assert_eq!(side.connection.room(key, 100), 0);
    assert_eq!(side.take(&settings(&[(setting::INITIAL_WINDOW_SIZE, 3)])).unwrap().len(), 2);
    assert_eq!(side.connection.room(key, 100), 3);
}

#[test]
fn streams_share_the_window_of_the_connection_in_turns() {
    let mut side = Side::new(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
    let (first, second) = (side.open(false), side.open(false));
    assert_eq!(side.connection.room(first, 1 << 20), 65_535, "the first window of the connection");
    side.connection.send_data(first, vec![0; 65_535].into(), false);
    side.sent();
    assert_eq!((side.connection.room(first, 50_000), side.connection.room(second, 50_000)), (0, 0));
    let mut order = Vec::new();
    for _ in 0..6 {
        for event in side.take(&window_update(0, 16_384)).unwrap() {
            let Event::Room(key) = event else { continue };
            let room = side.connection.room(key, 50_000);
            side.connection.send_data(key, vec![0; room].into(), false);
            order.push((key, room));
            side.sent();
            assert_eq!(side.connection.room(key, 50_000), 0);
        }
    }
    let turns: Vec<(Key, usize)> = [first, second].repeat(3).into_iter().map(|key| (key, 16_384)).collect();
    assert_eq!(order, turns);
    // What was set aside for a stream that ends goes to the next one.
    let granted = side.take(&window_update(0, 16_384)).unwrap();
    assert_eq!(granted, [Event::Room(first)]);
    side.connection.release(first);
    assert_eq!(side.connection.next_event(), Some(Event::Room(second)));
    assert_eq!(side.connection.room(second, 50_000), 16_384);
}

#[test]
fn no_stream_keeps_more_waiting_than_its_buffer() {
    let most = (1 << 31) - 1;
    let mut side = Side::new(&[(setting::INITIAL_WINDOW_SIZE, most)]);
    side.take(&window_update(0, most - 65_535)).unwrap();
    let (key, other) = (side.open(false), side.open(false));
    assert_eq!(side.connection.room(key, 1 << 20), 65_536);
    side.connection.send_data(key, vec![7; 65_536].into(), false);
    assert_eq!((side.connection.room(key, 1 << 20), side.connection.room(other, 100)), (0, 100));
    let sent = side.sent();
    assert_eq!(side.connection.next_event(), Some(Event::Room(key)));
    assert_eq!(side.connection.room(key, 1 << 20), 65_536);
    let lengths: Vec<usize> =
        sent.iter().filter(|sent| sent.kind == kind::DATA).map(|sent| sent.payload.len()).collect();
    assert_eq!(lengths, [16_384; 4], "in frames that every peer takes");
}

#[test]
fn all_streams_together_keep_a_bounded_amount_waiting() {
    let most = (1 << 31) - 1;
    let mut side = Side::new(&[(setting::INITIAL_WINDOW_SIZE, most), (setting::MAX_CONCURRENT_STREAMS, 1_000)]);
    side.take(&window_update(0, most - 65_535)).unwrap();
    let mut waiting = 0;
    loop {
        let key = side.open(false);
        let room = side.connection.room(key, 1 << 20);
        if room == 0 {
            break;
        }
        side.connection.send_data(key, vec![7; room].into(), false);
        waiting += room;
    }
    assert!(waiting <= MAX_WAITING + 65_536 && side.connection.is_clogged());
    side.sent();
    assert!(!side.connection.is_clogged() && side.connection.next_event().is_some());
}

#[test]
fn a_peer_that_does_not_take_its_answers_is_not_read_from() {
    let mut side = Side::new(&[]);
    let ping = frame(kind::PING, 0, 0, &[7; 8]);
    let mut pings = 0;
    while side.connection.wants_input() {
        side.take(&ping).unwrap();
        pings += 1;
        assert!(pings < 10_000);
    }
    let answers = side.sent();
    assert!(answers.len() == pings && answers.iter().all(|sent| sent.flags == flag::ACK && sent.payload == [7; 8]));
    assert!(side.connection.wants_input());
}

#[test]
fn a_peer_that_goes_away_has_processed_what_it_says_and_gets_nothing_else() {
    let mut side = Side::new(&[]);
    let (first, second) = (side.open(true), side.open(false));
    let goaway =
        |last: u32, reason: u32| frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat());
    assert_eq!(side.take(&goaway((1 << 31) - 1, 0)).unwrap(), [Event::GoAway(Reason::NO_ERROR)]);
    assert_eq!(side.connection.open(&[b"\x82"], true, false), Err(OpenError::Closing));
    let calm = Reason::ENHANCE_YOUR_CALM;
    assert_eq!(side.take(&goaway(1, 11)).unwrap(), [Event::GoAway(calm), Event::Refused(second, calm)]);
    assert_eq!(side.take(&head(1, flag::END_STREAM, "200", &[])).unwrap(), [Event::Head { stream: first, ends: true }]);
    assert_eq!(side.connection.open_streams(), 0);
}

#[test]
fn no_more_streams_are_opened_than_the_peer_allows() {
    let mut side = Side::new(&[(setting::MAX_CONCURRENT_STREAMS, 1)]);
    assert_eq!(side.connection.max_streams(), 1);
    let key = side.open(true);
    assert_eq!(side.connection.open(&[b"\x82"], true, false), Err(OpenError::Full));
    side.connection.release(key);
    side.open(true);
}

#[test]
fn a_head_that_has_not_left_is_known() {
    let mut side = Side::new(&[]);
    let key = side.open(true);
    assert!(!side.connection.has_left(key));
    let all = side.connection.out.len();
    side.connection.written(all - 1);
    assert!(!side.connection.has_left(key));
    side.connection.written(1);
    assert!(side.connection.has_left(key));
}

#[test]
fn long_blocks_are_cut_into_frames_and_put_together_again() {
    let mut side = Side::new(&[]);
    let long = vec![b'v'; 40_000];
    let mut fields = Vec::new();
    block::put_field(&mut fields, b"x-long", &long);
    side.connection.open(&[&fields], true, false).unwrap();
    let sent = side.sent();
    let flags: Vec<(u8, u8, usize)> = sent.iter().map(|sent| (sent.kind, sent.flags, sent.payload.len())).collect();
    let rest = fields.len() + 1 - 2 * 16_384;
    let (first, next, last) =
        ((kind::HEADERS, flag::END_STREAM), (kind::CONTINUATION, 0), (kind::CONTINUATION, flag::END_HEADERS));
    assert_eq!(flags, [(first.0, first.1, 16_384), (next.0, next.1, 16_384), (last.0, last.1, rest)]);
    assert_eq!(sent.iter().flat_map(|sent| sent.payload.clone()).skip(1).collect::<Vec<u8>>(), fields);

    let mut block = b"\x88".to_vec();
    block::put_field(&mut block, b"a", &[b'v'; 10_000]);
    let (start, end) = block.split_at(3_000);
    let cut = [frame(kind::HEADERS, flag::END_STREAM, 1, start), frame(kind::CONTINUATION, flag::END_HEADERS, 1, end)]
        .concat();
    assert_eq!(side.take(&cut).unwrap().len(), 1);
    assert_eq!(side.connection.lines().len(), 10_000 + 5);
}

#[test]
fn a_block_that_does_not_end_is_bounded() {
    let mut side = Side::new(&[]);
    side.open(true);
    side.take(&frame(kind::HEADERS, 0, 1, &[])).unwrap();
    let piece = frame(kind::CONTINUATION, 0, 1, &[0; 16_384]);
    let taken = (0..100).take_while(|_| side.take(&piece).is_ok()).count();
    assert_eq!(taken, 16);
}
