//! Every kind of reply arrives as scripted, byte for byte.

use std::time::{Duration, Instant};

use super::*;
use crate::client::{ReadError, get};
use crate::http::{Cut, End};

async fn bytes_of(reply: Reply) -> String {
    let origin = Origin::start(reply.then_close());
    let (bytes, how) = sent(&origin, GET).await.read_to_end().await;
    assert_eq!(how, Cut::Eof);
    String::from_utf8(bytes).expect("text")
}

#[tokio::test]
async fn a_reply_is_written_byte_for_byte() {
    let plain = Reply::ok("hello").header("X-aB", "1").header("x-Ab", "2").header_line("odd line");
    assert_eq!(
        bytes_of(plain).await,
        "HTTP/1.1 200 OK\r\nX-aB: 1\r\nx-Ab: 2\r\nodd line\r\nContent-Length: 5\r\n\r\nhello"
    );
    let chunked = Reply::new(201).chunked_by(4, "hello").trailer("T", "v");
    assert_eq!(
        bytes_of(chunked).await,
        "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n1\r\no\r\n0\r\nT: v\r\n\r\n"
    );
    let until_close = Reply::new(200).version("HTTP/1.0").reason("Fine").until_close("abc");
    assert_eq!(bytes_of(until_close).await, "HTTP/1.0 200 Fine\r\n\r\nabc");
    assert_eq!(bytes_of(Reply::new(204)).await, "HTTP/1.1 204 No Content\r\n\r\n");
    assert_eq!(bytes_of(Reply::new(404)).await, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(
        bytes_of(Reply::ok("hello").content_length(9)).await,
        "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"
    );
    assert_eq!(bytes_of(Reply::new(200).filler("abc", 7)).await, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcabca");
    assert_eq!(bytes_of(Reply::raw("\0garbage")).await, "\0garbage");
    assert_eq!(
        bytes_of(Reply::new(200).bare().interim(103)).await,
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
    );
}

#[tokio::test]
async fn a_cut_is_exact_at_every_byte() {
    let whole = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    let origin = Origin::start(Reply::new(500));
    for n in 0..=whole.len() as u64 {
        origin.set(Reply::ok("hello").close_at(At::Byte(n)));
        let (bytes, _) = sent(&origin, GET).await.read_to_end().await;
        assert_eq!(bytes, &whole.as_bytes()[..usize::try_from(n).expect("small")]);
    }
    origin.set(Reply::ok("hello").close_at(At::Body(2)));
    let (bytes, _) = sent(&origin, GET).await.read_to_end().await;
    assert!(bytes.ends_with(b"\r\n\r\nhe"));
    let last = origin.requests().len() - 1;
    assert_eq!(origin.requests()[last].answer_length, bytes.len() as u64);
    assert!(!origin.requests()[last].answered);
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let gate = Gate::new();
    let reply = Reply::ok("hello").hold_at(At::Body(2), &gate).reset_at(At::Body(2));
    let origin = Origin::start(reply);
    let mut client = sent(&origin, GET).await;
    let mut answer = client.read_head("GET").await;
    client.read_body(&mut answer, 2).await;
    assert_eq!((answer.text().as_str(), &answer.end), ("he", &End::Arriving));
    gate.release();
    client.read_body(&mut answer, 5).await;
    assert_eq!(answer.end, End::Cut(Cut::Reset));
}

#[tokio::test]
async fn a_held_reply_waits_for_its_gate() {
    let gate = Gate::new();
    let origin = Origin::start(Reply::ok("x").hold(&gate));
    let mut client = sent(&origin, GET).await;
    gate.wait_reached(1).await;
    assert!(client.is_quiet() && !gate.is_open());
    assert_eq!(origin.requests()[0].answer_length, 0);
    gate.release();
    assert_eq!(client.read_response("GET").await.complete().text(), "x");
}

#[tokio::test]
async fn a_queue_goes_in_order_and_its_last_reply_stays() {
    let origin = Origin::start([Reply::ok("1"), Reply::ok("2")]);
    let mut client = sent(&origin, GET.repeat(3)).await;
    for text in ["1", "2", "2"] {
        assert_eq!(client.read_response("GET").await.text(), text);
    }
    origin.set(Reply::new(503));
    client.send(GET).await;
    assert_eq!(client.read_response("GET").await.status, 503);
    origin.set(Vec::new());
    client.send(GET).await;
    assert_eq!(client.read_response("GET").await.status, 500);
}

#[tokio::test]
async fn a_closure_chooses_by_head_or_by_the_whole_request() {
    let origin = Origin::start(Script::on_request(|r| Reply::ok([b"echo ", &r.body[..]].concat())));
    let mut client = sent(&origin, post(b"hello")).await;
    assert_eq!(client.read_response("POST").await.text(), "echo hello");
    origin.set(Script::on_head(|r| Reply::ok(&r.target).early()));
    client.send("POST /early HTTP/1.1\r\nContent-Length: 3\r\n\r\n").await;
    assert_eq!(client.read_response("POST").await.text(), "/early");
    assert_eq!(origin.wait_heads(2).await[1].end, End::Arriving);
    client.send("abc").await;
    assert_eq!(origin.wait_requests(2).await[1].text(), "abc");
}

#[tokio::test]
async fn an_answer_starts_at_the_scripted_byte_of_the_request() {
    let origin = Origin::start(Reply::new(409).when(When::Body(4)));
    let mut client = sent(&origin, "POST / HTTP/1.1\r\nContent-Length: 6\r\n\r\nabc").await;
    origin.wait_until("three bytes", |j| j.requests.iter().any(|r| r.body_length == 3)).await;
    assert!(client.is_quiet());
    client.send("d").await;
    assert_eq!(client.read_response("POST").await.status, 409);
    client.send("ef").await;
    assert_eq!(origin.wait_requests(1).await.remove(0).complete().text(), "abcdef");
    // The connection goes on behind the late end of the request.
    client.send(GET).await;
    assert_eq!(client.read_response("GET").await.status, 409);
}

#[tokio::test]
async fn never_is_never_until_the_client_goes() {
    let origin = Origin::start(Reply::never());
    let client = sent(&origin, GET).await;
    let _complete = origin.wait_requests(1).await.remove(0).complete();
    assert!(client.is_quiet());
    client.close();
    origin.wait_until("the origin to be done", |j| j.connections[0].done).await;
}

#[tokio::test]
async fn drips_and_delays_take_their_time() {
    let pause = Duration::from_millis(5);
    let origin = Origin::start(Reply::ok("0123456789").drip(1, pause).delay(pause));
    let start = Instant::now();
    let answer = get(origin.address(), "/").await.complete();
    let pieces = u32::try_from(answer.head.len() + 10).expect("small");
    assert!(start.elapsed() >= pause * pieces, "{:?}", start.elapsed());
}

#[tokio::test]
async fn half_close_ends_the_answer_and_reads_on() {
    let origin = Origin::start(Reply::new(200).until_close("abc").early().act(At::End, Act::HalfClose));
    let mut client = sent(&origin, "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nab").await;
    assert_eq!(client.read_response("POST").await.complete().text(), "abc");
    client.send("cd").await;
    assert_eq!(origin.wait_requests(1).await.remove(0).complete().text(), "abcd");
}

#[tokio::test]
async fn connections_close_as_requests_and_replies_say() {
    let origin = Origin::start(Reply::ok("x"));
    for head in ["GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
        let mut client = sent(&origin, head).await;
        let _complete = client.read_response("GET").await.complete();
        assert_eq!(client.expect_end().await, Cut::Eof);
    }
    origin.set(Reply::ok("x").connection_close());
    let mut client = sent(&origin, GET).await;
    assert!(!client.read_response("GET").await.keeps_alive);
    assert_eq!(client.expect_end().await, Cut::Eof);
    // Unannounced: the answer looks as if the connection could be used again.
    origin.set(Reply::ok("x").then_close());
    let mut client = sent(&origin, GET).await;
    assert!(client.read_response("GET").await.keeps_alive);
    assert_eq!(client.expect_end().await, Cut::Eof);
    client.send(GET).await;
    let next = client.try_read_head("GET").await;
    assert!(matches!(next, Err(ReadError::Closed(_))), "{next:?}");
}

#[tokio::test]
async fn an_early_answer_that_closes_does_not_wait_for_the_request() {
    let head = "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n";
    for reply in [Reply::new(200).until_close("abc").early(), Reply::ok("abc").connection_close().unread()] {
        let origin = Origin::start(reply);
        let mut client = sent(&origin, head).await;
        assert_eq!(client.read_response("POST").await.complete().text(), "abc");
        assert_eq!(client.expect_end().await, Cut::Eof);
    }
}
