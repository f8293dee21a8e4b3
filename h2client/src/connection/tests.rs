//! A connection and its peer, frame by frame: what comes in, and what goes out because of it.

mod errors;
mod fields;
mod streams;
mod windows;

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
        while let Some(event) = self.receive()? {
            events.push(event);
        }
        Ok(events)
    }

    /// The next event; short pieces look like long ones.
    fn receive(&mut self) -> Result<Option<Event>, ConnectionError> {
        let event = self.connection.receive(&mut self.input)?;
        Ok(event.map(|event| match event {
            Event::Piece { stream, ends } => {
                Event::Data { stream, data: Bytes::copy_from_slice(self.connection.piece()), ends }
            }
            event => event,
        }))
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
            while let Some(event) = side.receive().unwrap() {
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
