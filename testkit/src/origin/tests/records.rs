//! Everything that arrives is recorded as it is, however it ends; reading follows the script.

use std::time::{Duration, Instant};

use super::*;
use crate::http::{Cut, End, Framing, digest_of};

#[tokio::test]
async fn requests_are_recorded_byte_for_byte() {
    let origin = Origin::start(Reply::ok("x"));
    let first = "BAN /x?y HTTP/1.1\r\nhOsT: h\r\nA: 1\r\na: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "3;e\r\nabc\r\n1\r\nd\r\n0\r\nT: v\r\n\r\n";
    let mut client = sent(&origin, first).await;
    for byte in body.bytes() {
        client.send([byte]).await;
    }
    client.send(GET).await;
    let seen = origin.wait_requests(2).await;
    assert_eq!(seen[0].head, first.as_bytes());
    assert_eq!(seen[0].raw_body, body.as_bytes());
    assert_eq!((seen[0].text().as_str(), seen[0].body_length), ("abcd", 4));
    assert_eq!((seen[0].raw_length, seen[0].digest), (body.len() as u64, digest_of(b"abcd")));
    assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("BAN", "/x?y"));
    assert_eq!(seen[0].headers.all("a"), ["1", "2"]);
    assert_eq!((seen[0].framing, seen[0].trailers.get("t")), (Framing::Chunked, Some("v")));
    assert_eq!((seen[1].connection, seen[1].place, seen[1].number), (0, 1, 1));
    let all = [first, body, GET].concat();
    assert_eq!(origin.journal().bytes_of(0), all.as_bytes());
}

#[tokio::test]
async fn a_cut_request_is_recorded_with_how_far_it_came() {
    let origin = Origin::start(Reply::ok("x"));
    for (bytes, length) in [
        ("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", 3),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", 3),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", 3),
    ] {
        for cut in [Cut::Eof, Cut::Reset] {
            let before = origin.requests().len();
            let client = sent(&origin, bytes).await;
            let wire = bytes.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len() as u64);
            let here = move |j: &Journal| j.requests.get(before).is_some_and(|r| r.raw_length == wire);
            origin.wait_until("the part to arrive", here).await;
            match cut {
                Cut::Eof => client.close(),
                Cut::Reset => client.reset(),
            }
            let seen = origin.wait_requests(before + 1).await.remove(before);
            assert_eq!((seen.end, seen.body_length), (End::Cut(cut), length), "{bytes:?}");
            assert_eq!(seen.answer_length, 0);
        }
    }
    assert!(origin.wait_closed().await.iter().all(|c| !c.open));
}

#[tokio::test]
async fn bad_chunks_and_bad_heads_are_faults() {
    let origin = Origin::start(Reply::ok("x"));
    let mut client = sent(&origin, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX").await;
    let seen = origin.wait_requests(1).await.remove(0);
    assert!(matches!(&seen.end, End::Malformed(why) if why.contains("CRLF")), "{seen}");
    assert_eq!(seen.text(), "abc");
    client.expect_end().await;

    let mut client = sent(&origin, "GET  / HTTP/1.1\r\n\r\n").await;
    assert_eq!(client.read_response("GET").await.status, 400);
    let connection = origin.wait_connections(2).await.remove(1);
    assert_eq!(connection.stray, b"GET  / HTTP/1.1\r\n\r\n");
    assert!(connection.fault.is_some() && connection.requests.is_empty());
}

#[tokio::test]
async fn an_unfinished_head_is_stray_but_no_fault() {
    let origin = Origin::start(Reply::ok("x"));
    sent(&origin, "GET / HT").await.close();
    let seen = origin.wait_until("the end", |j| j.connections.iter().any(|c| c.done)).await;
    assert_eq!(seen.connections[0].stray, b"GET / HT");
    assert_eq!(seen.connections[0].fault, None);
    assert_eq!(seen.bytes_of(0), b"GET / HT");
}

#[tokio::test]
async fn large_bodies_are_digested_and_not_kept() {
    let origin = Origin::builder().body_mode(BodyMode::Digest).start(Reply::ok("x"));
    let body: Vec<u8> = (0..20_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut client = sent(&origin, post(&body)).await;
    assert!(client.read_response("POST").await.is_complete());
    let seen = origin.wait_requests(1).await.remove(0).complete();
    assert_eq!((seen.body_length, seen.digest), (20_000_000, digest_of(&body)));
    assert!(seen.body.is_empty() && seen.raw_body.is_empty());
}

#[tokio::test]
async fn a_body_that_is_not_read_stalls_its_sender_until_the_gate_opens() {
    let gate = Gate::new();
    let reply = Reply::ok("x").reading(Reading::HeldAfter(10, gate.clone()));
    let origin = Origin::builder().receive_buffer(8192).start(reply);
    let body = vec![b'a'; 16 << 20];
    let bytes = post(&body);
    let mut client = RawClient::connect(origin.address()).await;
    let stall = Duration::from_millis(200);
    let sent = client.send_until_stalled(&bytes, stall).await.expect("an open connection");
    assert!(sent < bytes.len(), "16 MiB went out although nobody reads");
    gate.wait_reached(1).await;
    assert_eq!(origin.requests()[0].raw_length, 10);
    gate.release();
    client.send(&bytes[sent..]).await;
    assert_eq!(client.read_response("POST").await.status, 200);
    assert_eq!(origin.wait_requests(1).await.remove(0).complete().digest, digest_of(&body));
}

#[tokio::test]
async fn a_reset_is_noticed_also_while_nothing_is_read() {
    let origin = Origin::start(Reply::never().unread());
    let client = sent(&origin, "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc").await;
    origin.wait_heads(1).await;
    client.reset();
    let seen = origin.wait_closed().await;
    assert_eq!(seen[0].peer_end, Some(Cut::Reset));
    assert_eq!(origin.wait_requests(1).await[0].body_length, 0);
}

#[tokio::test]
async fn a_slow_reader_is_slow() {
    let origin = Origin::start(Reply::ok("x").reading(Reading::Rate(2000)));
    let start = Instant::now();
    let mut client = sent(&origin, post(&[b'a'; 500])).await;
    assert!(client.read_response("POST").await.is_complete());
    // 100 bytes each 50 ms.
    assert!(start.elapsed() >= Duration::from_millis(250), "{:?}", start.elapsed());
    let _complete = origin.wait_requests(1).await.remove(0).complete();
}

#[tokio::test]
async fn a_client_that_leaves_while_its_answer_is_held_is_noticed() {
    let gate = Gate::new();
    let origin = Origin::start(Reply::ok("x").hold(&gate));
    let client = sent(&origin, GET).await;
    origin.wait_requests(1).await;
    assert_eq!(origin.open(), 1);
    client.reset();
    assert_eq!(origin.wait_closed().await[0].peer_end, Some(Cut::Reset));
}

#[tokio::test]
#[should_panic(expected = "in vain for 2 requests")]
async fn a_vain_wait_shows_the_journal() {
    let origin = Origin::start(Reply::ok("x"));
    let patience = Duration::from_millis(20);
    let _ = origin.wait_at_most(patience, "2 requests".to_owned(), |j| j.requests.len() >= 2).await;
}

#[tokio::test]
async fn bytes_behind_the_last_request_served_are_stray() {
    let origin = Origin::start(Reply::ok("x").then_close());
    let bytes = [GET, "GET /next"].concat();
    let mut client = sent(&origin, &bytes).await;
    client.read_to_end().await;
    let done = |j: &Journal| j.connections.iter().any(|c| c.done);
    let seen = origin.wait_until("the end", done).await;
    assert_eq!(seen.connections[0].stray, b"GET /next");
    assert_eq!(seen.bytes_of(0), bytes.as_bytes());
}
