//! Stalled uploads over HTTP/2: their memory is bounded in total, and other requests do not wait for them.

use bytes::Bytes;
use proxy::config::Limits;
use testkit::{
    eventually,
    http2::{self as raw, Frame, Http2Client, flag},
    origin::{BlackHole, Origin, Reply},
};

use crate::{
    fixture::{NEVER, Proxy, bytes, origin, over, route},
    http2::{Client, request},
    http2_endpoints::over_h2,
};

/// The limit of buffered bodies of all requests.
const LIMIT: usize = 16 << 20;

/// Connections of an uploading client, each with the most streams.
const CONNECTIONS: usize = 100;

const STREAMS: usize = 100;

/// The initial credit of a connection.
const FIRST_WINDOW: usize = 2 * STREAM_WINDOW;

/// The initial credit of a stream.
const STREAM_WINDOW: usize = 64 * 1024;

/// A frame.
const PIECE: usize = 16 << 10;

/// A proxy whose requests to `/live` are served, while all others wait for a connection.
async fn uploads_that_never_begin(hole: &BlackHole, live: &Origin, limits: impl FnOnce(&mut Limits)) -> Proxy {
    let setup = over_h2(&[hole]).total(NEVER).policy(|policy| policy.timeouts.connect = NEVER);
    let setup = setup.listener(|listener| {
        listener.timeouts.body = NEVER;
        let mut other = route("live", "test/live:http");
        other.matches = "/live".parse().expect("a match");
        listener.routes.insert(0, other.into());
    });
    let proxy = setup.limits(limits).start();
    proxy.publish_cluster("test/live:http", &[live]);
    eventually!("the other route", proxy.get("/live").await.status, |status| *status == 200);
    proxy
}

#[tokio::test]
async fn ten_thousand_stalled_uploads_hold_no_more_than_the_limit_and_hold_up_nobody() {
    let (hole, live) = (BlackHole::unconnectable(), origin(0, Reply::ok("live")));
    let proxy = uploads_that_never_begin(&hole, &live, |limits| {
        limits.buffered = LIMIT;
        (limits.inflight, limits.inflight_per_endpoint) = (2 * CONNECTIONS * STREAMS, 2 * CONNECTIONS * STREAMS);
    })
    .await;
    let served = async || proxy.get("/live").await.status;

    let (mut clients, mut uploads) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        let client = Client::of(&proxy).await;
        for _ in 0..STREAMS {
            let mut ready = client.send.clone().ready().await.expect("it takes requests");
            let (response, mut stream) =
                ready.send_request(request("POST", "/stalled", &[]), false).expect("it takes another one");
            stream.reserve_capacity(1 << 20);
            uploads.push((response, stream));
        }
        clients.push(client);
    }
    // Each sends up to its credit.
    let (zeros, mut sent) = (Bytes::from(vec![0; 1 << 20]), 0);
    let mut pump = || {
        for (_, stream) in &mut uploads {
            let room = stream.capacity();
            if room > 0 {
                stream.send_data(zeros.slice(..room), false).expect("the stream is open");
                stream.reserve_capacity(1 << 20);
                sent += room;
            }
        }
        sent
    };
    eventually!("the limit to be reached", pump(), |sent| *sent >= LIMIT);
    let body = bytes(100_000);
    for n in 0..20 {
        pump();
        assert_eq!(served().await, 200, "request {n} of somebody else");
        let client = Client::of(&proxy).await;
        let answer = client.send(request("POST", "/live", &[]), Some(&body)).await.expect("an answer");
        assert_eq!(answer.head.status(), 200, "upload {n} of somebody else");
    }
    assert!(live.requests().iter().filter(|seen| seen.method == "POST").all(|seen| seen.body == body));
    // What was taken is within the limit, and what was not yet once more; with a piece for each connection that was about to come.
    let most = 2 * LIMIT + CONNECTIONS * (FIRST_WINDOW + PIECE);
    let sent = pump();
    assert!(sent <= most, "{sent} bytes of stalled uploads are held, {most} is the most");
    drop((uploads, clients));
}

#[tokio::test]
async fn a_stalled_upload_starves_no_other_on_its_connection() {
    let (hole, live) = (BlackHole::unconnectable(), origin(0, Reply::ok("live")));
    let proxy = uploads_that_never_begin(&hole, &live, |_| {}).await;
    let client = Client::of(&proxy).await;
    let mut stalled = Vec::new();
    for _ in 0..STREAMS - 1 {
        let mut ready = client.send.clone().ready().await.expect("it takes requests");
        let (response, mut stream) =
            ready.send_request(request("POST", "/stalled", &[]), false).expect("it takes another one");
        stream.reserve_capacity(1 << 20);
        stalled.push((response, stream));
    }
    let zeros = Bytes::from(vec![0; 1 << 20]);
    let body = bytes(300_000);
    for n in 0..10 {
        for (_, stream) in &mut stalled {
            let room = stream.capacity();
            if room > 0 {
                stream.send_data(zeros.slice(..room), false).expect("the stream is open");
            }
            stream.reserve_capacity(1 << 20);
        }
        let answer = client.send(request("POST", "/live", &[]), Some(&body)).await.expect("an answer");
        assert_eq!(answer.head.status(), 200, "upload {n} beside them");
    }
    assert!(live.requests().iter().filter(|seen| seen.method == "POST").all(|seen| seen.body == body));
}

#[tokio::test]
async fn an_upload_goes_on_beside_streams_for_which_the_client_keeps_all_their_credit() {
    let a = origin(0, Reply::ok("stored"));
    let proxy = over(&[&a]).start();
    let body = bytes(300_000);
    for others in [1, 2, 3, 10, 50, STREAMS - 1] {
        let mut client = Http2Client::connect(proxy.address, &[]).await;
        for _ in 0..others {
            let stream = client.new_stream();
            client.send(&[Frame::headers(stream, 0, &raw::request("POST", "/begun", &[]))]).await;
        }
        client.keep_credit((others * STREAM_WINDOW) as i64);
        let stream = client.new_stream();
        client.send(&[Frame::headers(stream, 0, &raw::request("POST", "/live", &[]))]).await;
        client.credit(stream, 0).await;
        for piece in body.chunks(PIECE) {
            client.send(&[Frame::data(stream, 0, piece)]).await;
            client.credit(stream, piece.len()).await;
        }
        client.send(&[Frame::data(stream, flag::END_STREAM, b"")]).await;
        assert!(client.answer(stream).await.is_whole(200), "beside {others}");
    }
    assert!(a.requests().iter().filter(|seen| seen.target == "/live").all(|seen| seen.body == body));
}
