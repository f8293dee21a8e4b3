//! Malicious HTTP/2 endpoints: whatever they send, only their own leg fails, with an outcome and a readable error.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::Value;
use testkit::{
    eventually,
    http2::{Frame, PREFACE, block, flag, kind, setting},
    origin::Gate,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, tcp::OwnedReadHalf},
    task::JoinSet,
};

use crate::{
    fixture::{NEVER, Place, Proxy, Serving, bytes, ms},
    http2_endpoints::{Does, Endpoint, over_h2},
};

/// More useless frames than an endpoint is allowed.
const MANY: usize = 50_000;

/// Frames for the stream of the request.
type Frames = Arc<dyn Fn(u32) -> Vec<Frame> + Send + Sync>;

/// The behaviour of an endpoint.
#[derive(Clone)]
enum Sends {
    /// These bytes at once on every connection; without bytes it closes.
    Bytes(&'static [u8]),
    /// These frames for each request.
    Once(Frames),
    /// These frames for the first request, and then those repeatedly.
    Flood(Frames, Frames),
    /// This frame first, instead of empty SETTINGS.
    Settings(Frame),
    /// First these settings, those once the gate is open, and these frames for each request.
    SettingsTwice(Frame, Gate, Frame, Frames),
}

/// An endpoint that sends scripted bytes. It reads everything, and ignores it.
struct BadEndpoint {
    serving: Serving,
    /// How often it has sent the repeated frames.
    sent: Arc<AtomicUsize>,
}

impl Place for BadEndpoint {
    fn place(&self) -> SocketAddr {
        self.serving.place()
    }
}

impl BadEndpoint {
    async fn start(sends: Sends) -> Self {
        let sent = Arc::<AtomicUsize>::default();
        let count = sent.clone();
        let serving = Serving::start(0, |listener| async move {
            // The connections end with this task.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, sends.clone(), count.clone()));
            }
        });
        Self { serving: serving.await, sent }
    }
}

async fn serve(stream: TcpStream, sends: Sends, sent: Arc<AtomicUsize>) -> Option<()> {
    let (mut from, mut to) = stream.into_split();
    if let Sends::Bytes(bytes) = sends {
        to.write_all(bytes).await.ok()?;
        // Reads what has arrived.
        let _ = from.read(&mut [0; 1000]).await.ok()?;
        if !bytes.is_empty() {
            // Until the proxy closes the connection.
            tokio::io::copy(&mut from, &mut tokio::io::sink()).await.ok()?;
        }
        return None;
    }
    let settings = match &sends {
        Sends::Settings(frame) | Sends::SettingsTwice(frame, ..) => frame.clone(),
        _ => Frame::settings(&[]),
    };
    to.write_all(&settings.bytes()).await.ok()?;
    from.read_exact(&mut [0; PREFACE.len()]).await.ok()?;
    if let Sends::SettingsTwice(_, gate, settings, _) = &sends {
        eventually!("the gate to open", gate.is_open(), |open| *open);
        to.write_all(&settings.bytes()).await.ok()?;
    }
    let bytes = |frames: &Frames, stream| frames(stream).iter().flat_map(Frame::bytes).collect::<Vec<u8>>();
    let mut stream = request(&mut from).await?;
    if let Sends::Flood(once, again) = &sends {
        let reading = tokio::spawn(async move { tokio::io::copy(&mut from, &mut tokio::io::sink()).await });
        to.write_all(&bytes(once, stream)).await.ok()?;
        let again = bytes(again, stream);
        while sent.fetch_add(1, Ordering::Relaxed) < MANY {
            to.write_all(&again).await.ok()?;
        }
        // The connection stays as it is.
        let _ = reading.await;
        return None;
    }
    loop {
        if let Sends::Once(frames) | Sends::SettingsTwice(.., frames) = &sends {
            to.write_all(&bytes(frames, stream)).await.ok()?;
        }
        stream = request(&mut from).await?;
    }
}

/// Reads up to the end of the head of a request, and returns its stream.
async fn request(from: &mut OwnedReadHalf) -> Option<u32> {
    loop {
        let mut header = [0; 9];
        from.read_exact(&mut header).await.ok()?;
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        from.read_exact(&mut vec![0; length]).await.ok()?;
        if header[3] == kind::HEADERS {
            return Some(u32::from_be_bytes([header[5], header[6], header[7], header[8]]));
        }
    }
}

fn of(frames: impl Fn(u32) -> Vec<Frame> + Send + Sync + 'static) -> Frames {
    Arc::new(frames)
}

fn once(frames: impl Fn(u32) -> Vec<Frame> + Send + Sync + 'static) -> Sends {
    Sends::Once(of(frames))
}

/// One frame, repeatedly, without other frames before.
fn flood(frame: impl Fn(u32) -> Frame + Send + Sync + 'static) -> Sends {
    Sends::Flood(of(|_| Vec::new()), of(move |stream| vec![frame(stream)]))
}

/// The head of an answer, with more fields.
fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Frame {
    Frame::headers(stream, flags, &block(&[&[(":status", "200")], fields].concat()))
}

/// The error of the first leg, which has failed as one of these outcomes; the second is ok, and its endpoint got the request.
async fn assert_only_its_leg_fails(
    name: &str,
    proxy: &Proxy,
    good: &Endpoint,
    body: &[u8],
    outcomes: &[&str],
) -> String {
    let before = good.wait(0).await.len();
    let (_, report) = proxy.report("POST", "/x", body).await;
    let results: &Vec<Value> = report["results"].as_array().expect("results");
    let outcome = |n: usize| results[n]["outcome"].as_str().unwrap_or_default();
    assert!(outcomes.contains(&outcome(0)), "{name}: {report}");
    assert_eq!(outcome(1), "ok", "{name}: {report}");
    let seen = good.wait(before + 1).await.remove(before);
    assert!(seen.body == body, "{name}: {} bytes", seen.body.len());
    let error = results[0]["error"].as_str().unwrap_or_default().to_owned();
    assert!(error.len() > 8 && !error.contains('{'), "{name}: {error:?}");
    println!("{name}: {}: {error}", outcome(0));
    error
}

/// A proxy over an endpoint with this behaviour, and a good one.
async fn between(sends: Sends) -> (BadEndpoint, Endpoint, crate::fixture::Setup) {
    let bad = BadEndpoint::start(sends).await;
    let good = Endpoint::start(1, [Does::Answer(b"good".to_vec())]).await;
    let setup = over_h2(&[&bad, &good]);
    (bad, good, setup)
}

#[tokio::test]
async fn frames_without_end_are_stopped() {
    let opened = || of(|stream| vec![head(stream, 0, &[])]);
    let again = |frame: fn(u32) -> Frame| of(move |stream| vec![frame(stream)]);
    let block = |piece: &'static [u8]| {
        let first = |stream| vec![Frame::new(kind::HEADERS, 0, stream, block(&[(":status", "200")]))];
        Sends::Flood(of(first), of(move |stream| vec![Frame::new(kind::CONTINUATION, 0, stream, piece)]))
    };
    let floods: [(&str, Sends); 12] = [
        ("CONTINUATION of a byte", block(b"\0")),
        ("CONTINUATION of nothing", block(b"")),
        ("CONTINUATION of 16 KiB", block(&[0; 16_000])),
        ("PING", flood(|_| Frame::new(kind::PING, 0, 0, [7_u8; 8]))),
        ("PING acknowledged unasked", flood(|_| Frame::new(kind::PING, flag::ACK, 0, [7_u8; 8]))),
        ("SETTINGS", flood(|_| Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535)]))),
        ("PRIORITY", flood(|_| Frame::new(kind::PRIORITY, 0, 9_999, [0_u8, 0, 0, 0, 16]))),
        ("WINDOW_UPDATE", flood(|_| Frame::window_update(0, 1))),
        ("WINDOW_UPDATE of the stream", flood(|stream| Frame::window_update(stream, 1))),
        ("an unknown kind", flood(|_| Frame::new(0x77, 0, 0, [0_u8; 8]))),
        ("empty DATA", Sends::Flood(opened(), again(|stream| Frame::data(stream, 0, b"")))),
        ("RST_STREAM", flood(Frame::cancel)),
    ];
    for (name, sends) in floods {
        let (bad, good, setup) = between(sends).await;
        let proxy = setup.total(NEVER).start();
        assert_only_its_leg_fails(name, &proxy, &good, b"body", &["protocol", "reset"]).await;
        // The connection ends long before the endpoint has sent everything.
        eventually!("the flood to end", Arc::strong_count(&bad.sent), |connections| *connections <= 2);
        let sent = bad.sent.load(Ordering::Relaxed);
        assert!(sent < MANY, "{name}: {sent} frames were taken");
    }
}

fn block_of_interim() -> Vec<u8> {
    block(&[(":status", "103")])
}

#[tokio::test]
async fn frames_that_are_wrong_fail_their_leg_alone() {
    let goaway =
        |last: u32, reason: u32| Frame::new(kind::GOAWAY, 0, 0, [last.to_be_bytes(), reason.to_be_bytes()].concat());
    let bomb = |stream| {
        let mut bomb = block(&[(":status", "200")]);
        bomb.extend_from_slice(b"\x40\x01x\x7f\xb9\x16");
        bomb.extend_from_slice(&[b'a'; 3_000]);
        bomb.extend(std::iter::repeat_n(0xbe, 13_000));
        vec![Frame::headers(stream, flag::END_STREAM, &bomb)]
    };
    let long = bytes(200_000);
    let cases: Vec<(&str, Sends)> = vec![
        ("a list of fields that is large when it is unpacked", once(bomb)),
        ("fields that cannot be unpacked", once(|stream| vec![Frame::headers(stream, 0, &[0xff; 40])])),
        ("credit of nothing for the stream", once(|stream| vec![Frame::window_update(stream, 0)])),
        ("credit of nothing for the connection", once(|_| vec![Frame::window_update(0, 0)])),
        ("too much credit for the stream", once(|stream| vec![Frame::window_update(stream, (1 << 31) - 1); 2])),
        ("too much credit for the connection", once(|_| vec![Frame::window_update(0, (1 << 31) - 1); 2])),
        (
            "a promise",
            once(|stream| vec![Frame::new(kind::PUSH_PROMISE, flag::END_HEADERS, stream, [0_u8, 0, 0, 2, 0x82])]),
        ),
        ("DATA before the head", once(|stream| vec![Frame::data(stream, flag::END_STREAM, b"body")])),
        ("DATA of a stream that nobody has opened", once(|_| vec![Frame::data(99, 0, b"body")])),
        ("DATA of no stream", once(|_| vec![Frame::data(0, 0, b"body")])),
        ("a head of a stream of its own", once(|_| vec![head(2, flag::END_STREAM, &[])])),
        ("a reset of a stream that nobody has opened", once(|_| vec![Frame::cancel(99)])),
        ("a reset of no stream", once(|_| vec![Frame::cancel(0)])),
        (
            "a reset as if it had not begun",
            once(|stream| vec![Frame::new(kind::RST_STREAM, 0, stream, 7_u32.to_be_bytes())]),
        ),
        ("GOAWAY with ids that become smaller", once(move |_| [5, 3, 1, 0].map(|last| goaway(last, 0)).to_vec())),
        ("GOAWAY with ids that become larger", once(move |_| vec![goaway(0, 0), goaway(5, 0)])),
        ("GOAWAY for a fault", once(move |_| vec![goaway(0, 1)])),
        ("a frame that is too long", once(|stream| vec![head(stream, 0, &[]), Frame::data(stream, 0, &[0; 16_385])])),
        ("PING that is too short", once(|_| vec![Frame::new(kind::PING, 0, 0, [0; 4])])),
        ("no status", once(|stream| vec![Frame::headers(stream, flag::END_STREAM, &block(&[("x", "y")]))])),
        (
            "a status that is none",
            once(|stream| vec![Frame::headers(stream, flag::END_STREAM, &block(&[(":status", "2x0")]))]),
        ),
        ("two statuses", once(|stream| vec![head(stream, flag::END_STREAM, &[(":status", "200")])])),
        ("a field of connections", once(|stream| vec![head(stream, flag::END_STREAM, &[("connection", "close")])])),
        ("a name in upper case", once(|stream| vec![head(stream, flag::END_STREAM, &[("X-Name", "v")])])),
        ("a value with a line end", once(|stream| vec![head(stream, flag::END_STREAM, &[("x", "a\r\nb: c")])])),
        (
            "more than was said",
            once(|stream| {
                vec![head(stream, 0, &[("content-length", "2")]), Frame::data(stream, flag::END_STREAM, b"body")]
            }),
        ),
        (
            "less than was said",
            once(|stream| {
                vec![head(stream, 0, &[("content-length", "9")]), Frame::data(stream, flag::END_STREAM, b"body")]
            }),
        ),
        (
            "an interim answer that is the last",
            once(|stream| vec![Frame::headers(stream, flag::END_STREAM, &block_of_interim())]),
        ),
        ("interim answers", once(|stream| vec![Frame::headers(stream, 0, &block_of_interim()); 9])),
        ("a window that cannot be", Sends::Settings(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)]))),
        ("frames that cannot be", Sends::Settings(Frame::settings(&[(setting::MAX_FRAME_SIZE, 1)]))),
        ("SETTINGS of half a setting", Sends::Settings(Frame::new(kind::SETTINGS, 0, 0, [0_u8; 3]))),
        ("no SETTINGS first", Sends::Settings(Frame::new(kind::PING, 0, 0, [0_u8; 8]))),
    ];
    for (name, sends) in cases {
        let (_bad, good, setup) = between(sends).await;
        let proxy = setup.total(NEVER).start();
        // More than the endpoint's credit, so that the request is in progress when it happens.
        assert_only_its_leg_fails(name, &proxy, &good, &long, &["protocol", "reset"]).await;
        assert_only_its_leg_fails(name, &proxy, &good, &long, &["protocol", "reset"]).await;
    }
}

#[tokio::test]
async fn what_is_no_http2_is_told_from_it() {
    for (bytes, error) in [
        (&b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[..], "it does not speak HTTP/2"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "it does not speak HTTP/2"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "it does not speak HTTP/2"),
        (b"\x15\x03\x01\x00\x02\x02\x46\x15\x03\x01", "it does not speak HTTP/2"),
        (b"", ""),
    ] {
        let (_bad, good, setup) = between(Sends::Bytes(bytes)).await;
        let proxy = setup.total(NEVER).start();
        let name = String::from_utf8_lossy(bytes);
        let told = assert_only_its_leg_fails(&name, &proxy, &good, b"body", &["protocol", "reset", "connect"]).await;
        assert!(told.contains(error), "{name}: {told}");
    }
}

#[tokio::test]
async fn an_endpoint_that_does_not_go_on_is_waited_for_as_long_as_any_other() {
    let first_half = |stream| vec![Frame::new(kind::HEADERS, 0, stream, block(&[(":status", "200")]))];
    let cases: [(&str, Sends); 5] = [
        ("nothing at all", once(|_| Vec::new())),
        ("a head that does not end", once(first_half)),
        ("a body that does not end", once(|stream| vec![head(stream, 0, &[]), Frame::data(stream, 0, b"bo")])),
        ("no window for a body", Sends::Settings(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 0)]))),
        ("no stream at all", Sends::Settings(Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, 0)]))),
    ];
    for (name, sends) in cases {
        let (_bad, good, setup) = between(sends).await;
        let proxy = setup.total(ms(1_500)).start();
        let outcomes = ["timeout", "lagged", "connect"];
        assert_only_its_leg_fails(name, &proxy, &good, b"body", &outcomes).await;
        proxy.settled().await;
    }
}

#[tokio::test]
async fn an_endpoint_that_takes_no_streams_is_waited_for_as_long_as_for_a_connection_and_served_when_it_does() {
    let (gate, streams) = (Gate::new(), |n| Frame::settings(&[(setting::MAX_CONCURRENT_STREAMS, n)]));
    let answered = of(|stream| vec![head(stream, flag::END_STREAM, &[])]);
    let sends = Sends::SettingsTwice(streams(0), gate.clone(), streams(5), answered);
    let bad = BadEndpoint::start(sends).await;
    let connect = ms(300);
    let proxy = over_h2(&[&bad]).total(NEVER).policy(|policy| policy.timeouts.connect = connect).start();
    for n in 0..3 {
        let (_, report) = proxy.report("POST", "/x", b"body").await;
        assert_eq!(report["results"][0]["outcome"], "timeout", "request {n}: {report}");
        let error = report["results"][0]["error"].as_str().expect("an error");
        assert!(error.contains("no connection within 300ms"), "{error}");
    }
    // Requests wait for its one connection, because another one would allow no streams either.
    assert_eq!(Arc::strong_count(&bad.sent), 3);
    gate.release();
    eventually!("the endpoint to be served", proxy.get("/").await.status, |status| *status == 200);
    assert_eq!(Arc::strong_count(&bad.sent), 3);
}

#[tokio::test]
async fn bytes_beyond_the_window_cut_the_answer_and_no_other() {
    let again = of(|stream| vec![Frame::data(stream, 0, &[b'x'; 16_000])]);
    let bad = BadEndpoint::start(Sends::Flood(of(|stream| vec![head(stream, 0, &[])]), again)).await;
    let proxy = over_h2(&[&bad]).total(NEVER).start();
    // A client that reads nothing, so that the proxy reads no more of the answer.
    let mut client = testkit::client::RawClient::connect_small(proxy.address, 4096).await;
    client.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n").await;
    eventually!("the connection to end", proxy.legs(&bad, "protocol") + proxy.legs(&bad, "reset"), |legs| *legs == 1);
    let sent = bad.sent.load(Ordering::Relaxed);
    assert!(sent < MANY, "{sent} frames were taken");
    let answer = client.try_read_response("GET").await;
    // The fault may come before any part of an answer was passed on.
    let is_whole = answer.is_ok_and(|answer| answer.status == 200 && answer.is_complete());
    assert!(!is_whole, "what was cut looks whole");
    let good = Endpoint::start(1, [Does::Answer(b"good".to_vec())]).await;
    let version = || proxy.metric("fanfare_snapshot_version", &[]);
    let before = version();
    proxy.publish(&[&good]);
    // Earlier requests would get the flood, whose end would not be observed.
    eventually!("the other endpoint to be in service", version(), |now| *now > before);
    assert_eq!(proxy.get("/").await.text(), "good");
}
