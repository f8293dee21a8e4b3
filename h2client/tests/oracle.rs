//! The `h2` crate as the other side, and as the judge: what is sent means there what was meant, and what comes means here what it
//! means there.

use std::{collections::BTreeMap, io::IoSlice, pin::Pin, task::Poll, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use fastrand::Rng;
use h2client::{
    Config, Connection, Event, Key,
    block::{self, Scheme},
    frame::{FrameHeader, flag, kind},
};
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWrite as _, AsyncWriteExt as _, DuplexStream, ReadBuf};

const CONFIG: Config = Config {
    stream_window: 65_536,
    connection_window: 1 << 20,
    max_fields_bytes: 65_536,
    max_fields: 256,
    send_buffer: 65_536,
    max_streams: 100,
};

type Fields = Vec<(String, Vec<u8>)>;

/// A message, whichever way it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Message {
    /// The method and the path, or the status.
    start: String,
    fields: Fields,
    body: Vec<u8>,
    trailers: Fields,
}

/// What has come on a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    message: Message,
    is_whole: bool,
}

/// A seed of this run, which is told so that it can be run again.
fn seeded(test: &str) -> Rng {
    let seed =
        std::env::var("ORACLE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    eprintln!("{test}: ORACLE_SEED={seed}");
    Rng::with_seed(seed)
}

// === what is random ===

fn value(rng: &mut Rng) -> Vec<u8> {
    let length = [0, 1, 10, 100, 3_000][rng.usize(..5)];
    let mut value: Vec<u8> =
        (0..rng.usize(..=length)).map(|_| [rng.u8(b' '..=b'~'), rng.u8(0x80..)][rng.usize(..2)]).collect();
    // White space at its ends is malformed.
    for end in [0, value.len().saturating_sub(1)] {
        if value.get(end) == Some(&b' ') {
            value[end] = b'x';
        }
    }
    value
}

/// Fields with names that repeat, so that tables are of use.
fn fields(rng: &mut Rng) -> Fields {
    let names = ["accept", "cookie", "x-a", "x-b", "authorization", "server", "etag", "grpc-status", "x-%"];
    let mut all: Fields =
        (0..rng.usize(..8)).map(|_| (names[rng.usize(..names.len())].to_owned(), value(rng))).collect();
    // Those of one name stand together there.
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

fn message(rng: &mut Rng, start: String) -> Message {
    let length = [0, 1, 100, 70_000, 300_000][rng.usize(..5)];
    let body = (0..length).map(|n: u32| (n % 251) as u8).collect();
    let trailers = if rng.bool() { fields(rng) } else { Vec::new() };
    Message { start, fields: fields(rng), body, trailers }
}

fn sorted(headers: &http::HeaderMap) -> Fields {
    let mut all: Fields =
        headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

fn from_lines(lines: &[u8]) -> Fields {
    let mut all = Vec::new();
    let mut rest = lines;
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let line = &rest[..end];
        let colon = line.iter().position(|byte| *byte == b':').expect("a field");
        all.push((String::from_utf8(line[..colon].to_vec()).expect("a name"), line[colon + 2..].to_vec()));
        rest = &rest[end + 2..];
    }
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

// === our side ===

/// A client on the codec.
struct Client {
    connection: Connection,
    input: BytesMut,
    seen: BTreeMap<usize, Seen>,
    sending: BTreeMap<usize, (Key, Bytes, Fields)>,
    keys: Vec<Key>,
}

impl Client {
    fn new() -> Self {
        let (seen, sending, keys) = Default::default();
        Self { connection: Connection::new(CONFIG), input: BytesMut::new(), seen, sending, keys }
    }

    fn begin(&mut self, request: &Message) {
        let (method, path) = request.start.split_once(' ').expect("both");
        let mut fields = Vec::new();
        block::put_method(&mut fields, method.as_bytes());
        block::put_path(&mut fields, path.as_bytes());
        block::put_authority(&mut fields, b"shop");
        request.fields.iter().for_each(|(name, value)| block::put_field(&mut fields, name.as_bytes(), value));
        let ends = request.body.is_empty() && request.trailers.is_empty();
        let key = self.connection.open(&[&Scheme::Http.field(), &fields], ends, false).expect("a stream");
        let number = self.keys.len();
        self.keys.push(key);
        self.seen.insert(number, Seen::default());
        if !ends {
            self.sending.insert(number, (key, request.body.clone().into(), request.trailers.clone()));
        }
    }

    /// Sends as much as there is room for.
    fn send(&mut self) {
        let connection = &mut self.connection;
        self.sending.retain(|_, (key, data, trailers)| {
            while !data.is_empty() {
                let room = connection.room(*key, data.len());
                if room == 0 {
                    return connection.is_sending(*key);
                }
                let piece = data.split_to(room);
                connection.send_data(*key, piece, data.is_empty() && trailers.is_empty());
            }
            if !trailers.is_empty() {
                let mut fields = Vec::new();
                trailers.iter().for_each(|(name, value)| block::put_field(&mut fields, name.as_bytes(), value));
                connection.send_trailers(*key, &fields);
            }
            false
        });
    }

    /// Takes what has come; false where the connection is at its end.
    fn take(&mut self, bytes: &[u8]) -> bool {
        self.input.extend_from_slice(bytes);
        loop {
            let event = match self.connection.receive(&mut self.input) {
                Ok(Some(event)) => event,
                Ok(None) => return true,
                Err(_) => return false,
            };
            let number = |key: Key| self.keys.iter().position(|known| *known == key).expect("a stream");
            match event {
                Event::Head { stream, ends } => {
                    let seen = self.seen.get_mut(&number(stream)).expect("a stream");
                    seen.message.start = self.connection.status().to_string();
                    seen.message.fields = from_lines(self.connection.lines());
                    seen.is_whole = ends;
                }
                Event::Data { stream, data, ends } => {
                    let seen = self.seen.get_mut(&number(stream)).expect("a stream");
                    seen.message.body.extend_from_slice(&data);
                    seen.is_whole = ends;
                    self.connection.consumed(stream, data.len());
                }
                Event::Piece { stream, ends } => {
                    let seen = self.seen.get_mut(&number(stream)).expect("a stream");
                    seen.message.body.extend_from_slice(self.connection.piece());
                    seen.is_whole = ends;
                    self.connection.consumed(stream, self.connection.piece().len());
                }
                Event::Trailers(stream) => {
                    let seen = self.seen.get_mut(&number(stream)).expect("a stream");
                    seen.message.trailers = from_lines(self.connection.lines());
                    seen.is_whole = true;
                }
                _ => {}
            }
        }
    }

    fn output(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        while self.connection.has_output() {
            let mut slices = [IoSlice::new(&[]); 8];
            let used = self.connection.fill(&mut slices);
            let bytes = slices[..used].iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
            self.connection.written(bytes.len());
            all.extend(bytes);
        }
        all
    }
}

// === against a server ===

/// Answers each request with the message of its number, and tells what it has got.
async fn serve(stream: DuplexStream, answers: Vec<Message>, got: tokio::sync::mpsc::Sender<(usize, Message)>) {
    let mut connection = h2::server::Builder::new()
        .initial_window_size(40_000)
        .handshake::<_, Bytes>(stream)
        .await
        .expect("it speaks HTTP/2");
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request.expect("a request");
        let (got, answers) = (got.clone(), answers.clone());
        tokio::spawn(async move {
            let (head, mut body) = request.into_parts();
            let path = head.uri.path_and_query().expect("a path").as_str();
            let number: usize = path.trim_start_matches('/').parse().expect("a number");
            assert_eq!((head.uri.authority().expect("one").as_str(), head.uri.scheme_str()), ("shop", Some("http")));
            let mut message = Message {
                start: format!("{} {path}", head.method),
                fields: sorted(&head.headers),
                ..Message::default()
            };
            while let Some(data) = body.data().await {
                let data = data.expect("the whole body");
                body.flow_control().release_capacity(data.len()).expect("it has come");
                message.body.extend_from_slice(&data);
            }
            message.trailers =
                body.trailers().await.expect("the whole request").as_ref().map(sorted).unwrap_or_default();
            got.send((number, message)).await.expect("somebody listens");
            let answer = &answers[number];
            let mut response = http::Response::builder().status(answer.start.as_str());
            for (name, value) in &answer.fields {
                response = response.header(name, http::HeaderValue::from_bytes(value).expect("a value"));
            }
            let ends = answer.body.is_empty() && answer.trailers.is_empty();
            let mut out =
                respond.send_response(response.body(()).expect("a response"), ends).expect("the stream is open");
            let mut rest = Bytes::from(answer.body.clone());
            while !rest.is_empty() {
                out.reserve_capacity(rest.len());
                let room = std::future::poll_fn(|cx| out.poll_capacity(cx)).await.expect("it is open").expect("room");
                let piece = rest.split_to(room.min(rest.len()));
                out.send_data(piece, rest.is_empty() && answer.trailers.is_empty()).expect("the stream is open");
            }
            if !answer.trailers.is_empty() {
                let mut trailers = http::HeaderMap::new();
                for (name, value) in &answer.trailers {
                    let name: http::HeaderName = name.parse().expect("a name");
                    trailers.append(name, http::HeaderValue::from_bytes(value).expect("a value"));
                }
                out.send_trailers(trailers).expect("the stream is open");
            }
        });
    }
}

#[tokio::test]
async fn requests_and_answers_mean_the_same_to_h2() {
    const STREAMS: usize = 30;
    let mut rng = seeded("against a server");
    for round in 0..12 {
        let methods = ["GET", "POST", "PURGE"];
        let requests: Vec<Message> = (0..STREAMS)
            .map(|n| {
                let method = methods[rng.usize(..3)];
                message(&mut rng, format!("{method} /{n}"))
            })
            .collect();
        let answers: Vec<Message> = (0..STREAMS)
            .map(|_| {
                let status = [200, 404, 500, 418][rng.usize(..4)];
                message(&mut rng, status.to_string())
            })
            .collect();
        let (ours, theirs) = tokio::io::duplex([100, 5_000, 1 << 20][round % 3]);
        let (got, mut requests_got) = tokio::sync::mpsc::channel(STREAMS);
        let server = tokio::spawn(serve(theirs, answers.clone(), got));
        let (mut from, mut to) = tokio::io::split(ours);
        let mut client = Client::new();
        let mut begun = 0;
        let exchange = async {
            let (mut buffer, mut waiting) = (vec![0; 1 + rng.usize(..20_000)], BytesMut::new());
            loop {
                // A few at a time, so that tables are used by several.
                while begun < STREAMS && client.connection.open_streams() < 1 + round {
                    client.begin(&requests[begun]);
                    begun += 1;
                }
                client.send();
                waiting.extend_from_slice(&client.output());
                if begun == STREAMS && client.connection.open_streams() == 0 && client.sending.is_empty() {
                    return;
                }
                // Both at once, as a proxy does it.
                let read = std::future::poll_fn(|cx| {
                    while !waiting.is_empty()
                        && let Poll::Ready(written) = Pin::new(&mut to).poll_write(cx, &waiting)
                    {
                        waiting.advance(written.expect("an open connection"));
                    }
                    let mut buffer = ReadBuf::new(&mut buffer);
                    Pin::new(&mut from).poll_read(cx, &mut buffer).map_ok(|()| buffer.filled().len())
                });
                let read = read.await.expect("an open connection");
                assert!(read > 0, "the connection ended");
                assert!(client.take(&buffer[..read]), "what h2 sends is wrong");
            }
        };
        tokio::time::timeout(Duration::from_secs(60), exchange).await.expect("every exchange ends");
        for (number, answer) in answers.iter().enumerate() {
            let seen = &client.seen[&number];
            assert!(seen.is_whole && seen.message == *answer, "answer {number}: {:?}", seen.message.fields);
        }
        let mut left = STREAMS;
        while left > 0 {
            let (number, got) = requests_got.recv().await.expect("every request");
            assert!(got == requests[number], "request {number}: {:?} {:?}", got.fields, got.trailers);
            left -= 1;
        }
        server.abort();
    }
}

// === the same frames in, the same meaning out ===

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    FrameHeader { length: payload.len(), kind, flags, stream }.put(&mut out);
    out.extend_from_slice(payload);
    out
}

/// The frames of a server on three streams.
#[derive(Default)]
struct Server {
    /// Streams whose head was sent, and those that have ended.
    begun: [bool; 3],
    ended: [bool; 3],
}

impl Server {
    /// A frame that it may send. With `late` also on streams that have ended, of which each side may make what it likes.
    fn frame(&mut self, rng: &mut Rng, late: bool) -> Vec<u8> {
        let place = rng.usize(..3);
        let stream = [1, 3, 5][place];
        let ends = rng.u8(..3) == 0;
        let flags = if ends { flag::END_STREAM } else { 0 };
        let kind = rng.u8(..14);
        if kind <= 10 && self.ended[place] && !late {
            return frame(kind::PING, 0, 0, &[1; 8]);
        }
        self.ended[place] |= kind <= 10 && ends;
        let mut block = Vec::new();
        match kind {
            // Trailers.
            0..6 if self.begun[place] => {
                fields(rng).iter().for_each(|(name, value)| block::put_field(&mut block, name.as_bytes(), value));
                self.ended[place] = true;
                frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &block)
            }
            0..4 => {
                let status = [&b"200"[..], b"404", b"100"][rng.usize(..3)];
                self.begun[place] |= status != b"100";
                block::put_field(&mut block, b":status", status);
                fields(rng).iter().for_each(|(name, value)| block::put_field(&mut block, name.as_bytes(), value));
                frame(kind::HEADERS, flag::END_HEADERS | flags, stream, &block)
            }
            4..6 => {
                self.begun[place] = true;
                frame(kind::HEADERS, flag::END_HEADERS | flags, stream, b"\x88\x40\x01a\x83\x1c\x64\x9f\xbe")
            }
            6..10 => frame(kind::DATA, flags, stream, &vec![rng.u8(..); rng.usize(..2_000)]),
            10 => frame(kind::DATA, flag::PADDED | flags, stream, &[&[3][..], b"padded", &[0; 3]].concat()),
            11 => frame(kind::WINDOW_UPDATE, 0, [0, stream][rng.usize(..2)], &rng.u32(1..1_000).to_be_bytes()),
            12 => frame(kind::PING, 0, 0, &[1; 8]),
            _ if rng.u8(..4) == 0 => {
                self.ended[place] = true;
                frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes())
            }
            _ => frame(0x77, 0, stream, b"unknown"),
        }
    }
}

/// What `h2` makes of these frames, for three requests.
async fn judged(bytes: &[u8]) -> Vec<Seen> {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let handshake = h2::client::Builder::new().initial_window_size(65_536).handshake::<_, Bytes>(ours);
    let (mut send, connection) = handshake.await.expect("a connection");
    let driving = tokio::spawn(connection);
    theirs.write_all(&frame(kind::SETTINGS, 0, 0, b"")).await.expect("it takes everything");
    let mut responses = Vec::new();
    for _ in 0..3 {
        send = send.ready().await.expect("a stream");
        let request = http::Request::get("http://shop/").body(()).expect("a request");
        responses.push(send.send_request(request, true).expect("a stream").0);
    }
    // Only what was asked for can be answered: the heads of all three have to be there first.
    let mut asked = Vec::new();
    while asked.windows(5).filter(|bytes| **bytes == [kind::HEADERS, 5, 0, 0, 0]).count() < 3 {
        let mut buffer = [0; 4_096];
        let read = theirs.read(&mut buffer).await.expect("an open connection");
        asked.extend_from_slice(&buffer[..read]);
    }
    theirs.write_all(bytes).await.expect("it takes everything");
    theirs.shutdown().await.expect("it takes everything");
    let draining = tokio::spawn(async move { tokio::io::copy(&mut theirs, &mut tokio::io::sink()).await });
    let mut all = Vec::new();
    for response in responses {
        let mut seen = Seen::default();
        if let Ok(response) = response.await {
            let (head, mut body) = response.into_parts();
            seen.message.start = head.status.as_str().to_owned();
            seen.message.fields = sorted(&head.headers);
            let mut is_cut = false;
            while let Some(data) = body.data().await {
                match data {
                    Ok(data) => {
                        let _ = body.flow_control().release_capacity(data.len());
                        seen.message.body.extend_from_slice(&data);
                    }
                    Err(_) => {
                        is_cut = true;
                        break;
                    }
                }
            }
            if !is_cut && let Ok(trailers) = body.trailers().await {
                seen.message.trailers = trailers.as_ref().map(sorted).unwrap_or_default();
                seen.is_whole = true;
            }
        }
        all.push(seen);
    }
    drop(send);
    let _ = driving.await;
    draining.abort();
    all
}

#[tokio::test]
async fn frames_of_servers_mean_the_same_as_to_h2() {
    let mut rng = seeded("frames of servers");
    let (mut whole, mut equal) = (0, 0);
    for round in 0..400 {
        let (mut server, late) = (Server::default(), round % 4 == 0);
        let frames: Vec<u8> = (0..rng.usize(1..25)).flat_map(|_| server.frame(&mut rng, late)).collect();
        let mut client = Client::new();
        assert!(client.take(&frame(kind::SETTINGS, 0, 0, b"")));
        for _ in 0..3 {
            client.begin(&Message { start: "GET /".to_owned(), ..Message::default() });
        }
        client.output();
        let mut goes_on = true;
        for piece in frames.chunks(1 + rng.usize(..3_000)) {
            goes_on = goes_on && client.take(piece);
        }
        let theirs = judged(&frames).await;
        for (number, theirs) in theirs.iter().enumerate() {
            let ours = &client.seen[&number];
            whole += usize::from(ours.is_whole);
            if ours.is_whole && theirs.is_whole {
                assert_eq!(ours.message, theirs.message, "round {round}, stream {number}");
                equal += 1;
            }
            // What is a response there is one here. The other way round, a later fault of the connection takes with it there what
            // nobody had asked for yet.
            let is_same = !theirs.is_whole || ours.is_whole || late;
            assert!(is_same, "round {round}, stream {number}: {theirs:?} and not {ours:?}");
        }
    }
    // About half are, and whatever the seed no fewer than a third.
    assert!(whole > 100 && equal * 3 >= whole, "{equal} of {whole} are whole on both sides");
}
