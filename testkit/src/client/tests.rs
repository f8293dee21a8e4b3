//! The client against an origin that sends raw bytes: it must hide no fault.

use super::*;
use crate::http::{Framing, digest_of};
use crate::origin::{At, Gate, Origin, Reply};

async fn answer_to(method: &str, reply: Reply) -> Result<Response, ReadError> {
    let origin = Origin::start(reply);
    let mut client = RawClient::connect(origin.address()).await;
    client.send(request_bytes("x", method, "/", &[], b"")).await;
    client.try_read_response(method).await
}

#[tokio::test]
async fn an_answer_is_kept_byte_for_byte() {
    let raw = "HTTP/1.1 299 Any Thing\r\nsEt: 1\r\nSet: 2\r\nTransfer-Encoding: chunked\r\n\r\n\
               3;x\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n";
    let answer = answer_to("GET", Reply::raw(raw)).await.expect("a head");
    let answer = answer.complete();
    assert_eq!((answer.status, answer.reason.as_str()), (299, "Any Thing"));
    assert_eq!(answer.headers.iter().next(), Some(("sEt", "1")));
    assert_eq!(answer.headers.all("set"), ["1", "2"]);
    assert_eq!((answer.text().as_str(), answer.body_length), ("abcde", 5));
    assert_eq!(answer.digest, digest_of(b"abcde"));
    assert_eq!(answer.trailers.get("x"), Some("y"));
    assert_eq!([answer.head, answer.raw_body].concat(), raw.as_bytes());
}

#[tokio::test]
async fn a_body_cut_short_is_reported_as_cut() {
    let length = Reply::ok("hello");
    let chunked = Reply::new(200).chunked(["hello"]);
    for (reply, cut) in [
        (length.clone().close_at(At::Body(3)), Cut::Eof),
        (length.reset_at(At::Body(3)), Cut::Reset),
        (chunked.clone().close_at(At::Body(6)), Cut::Eof),
        // Everything but the last chunk, and everything but its last byte.
        (chunked.clone().close_at(At::Body(10)), Cut::Eof),
        (chunked.close_at(At::Body(14)), Cut::Eof),
        (Reply::new(200).until_close("abc").reset_at(At::End), Cut::Reset),
    ] {
        // A reset may overtake the head too; then there is no answer at all.
        match answer_to("GET", reply.clone()).await {
            Ok(answer) => assert_eq!(answer.end, End::Cut(cut), "{reply:?}"),
            Err(e) => assert_eq!((e, cut), (ReadError::Closed(Cut::Reset), Cut::Reset)),
        }
    }
}

#[tokio::test]
async fn broken_framing_is_reported_as_malformed() {
    for body in ["5\r\nhelloX", "zz\r\n", "5\nhello\r\n0\r\n\r\n"] {
        let raw = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let answer = answer_to("GET", Reply::raw(raw)).await.expect("a head");
        assert!(matches!(answer.end, End::Malformed(_)), "{body:?}: {answer}");
    }
    for head in [
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let answer = answer_to("GET", Reply::raw(head)).await;
        assert!(matches!(answer, Err(ReadError::Malformed(..))), "{head:?}: {answer:?}");
    }
}

#[tokio::test]
async fn no_head_is_told_apart_from_half_a_head() {
    let closed = answer_to("GET", Reply::raw("").then_close()).await;
    assert_eq!(closed.err(), Some(ReadError::Closed(Cut::Eof)));
    let cut = answer_to("GET", Reply::raw("HTTP/1.1 2").then_close()).await;
    let head = b"HTTP/1.1 2".to_vec();
    assert_eq!(cut.err(), Some(ReadError::CutHead(Cut::Eof, head)));
}

#[tokio::test]
async fn bodies_that_cannot_be_are_not_waited_for() {
    for (method, reply) in [
        ("HEAD", Reply::ok("hello")),
        ("HEAD", Reply::new(200).chunked(["x"])),
        ("GET", Reply::new(204)),
        ("GET", Reply::new(304).content_length(9)),
    ] {
        let answer = answer_to(method, reply).await.expect("a head").complete();
        assert_eq!((answer.framing, answer.body_length), (Framing::Empty, 0));
    }
}

#[tokio::test]
async fn a_body_where_none_may_be_shows_as_garbage_before_the_next_answer() {
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n";
    let origin = Origin::start(Reply::raw(format!("{head}hello\n")));
    let mut client = RawClient::connect(origin.address()).await;
    client.send(request_bytes("x", "HEAD", "/", &[], b"")).await;
    assert!(client.read_response("HEAD").await.is_complete());
    let next = client.try_read_head("HEAD").await;
    assert!(matches!(next, Err(ReadError::Malformed(_, b)) if b == b"hello\n"));
}

#[tokio::test]
async fn interim_answers_are_collected() {
    let reply = Reply::ok("x").interims(2, 103).interim(100);
    let answer = answer_to("GET", reply).await.expect("a head").complete();
    let interim: Vec<u16> = answer.interim.iter().map(|head| head.status).collect();
    assert_eq!((answer.status, interim), (200, vec![103, 103, 100]));
}

#[tokio::test]
async fn answers_to_pipelined_requests_are_told_apart() {
    let origin = Origin::start([Reply::ok("one"), Reply::new(200).chunked(["t", "wo"]), Reply::ok("three")]);
    let mut client = RawClient::connect(origin.address()).await;
    client.send(request_bytes("x", "GET", "/", &[], b"").repeat(3)).await;
    for text in ["one", "two", "three"] {
        assert_eq!(client.read_response("GET").await.complete().text(), text);
    }
    assert!(client.unread().is_empty() && client.is_quiet());
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn a_half_closed_client_still_gets_its_answer() {
    let gate = Gate::new();
    let origin = Origin::start(Reply::ok("late").hold(&gate));
    let mut client = RawClient::connect(origin.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.half_close();
    origin.wait_closed().await;
    gate.release();
    let answer = client.read_response("GET").await.complete();
    assert_eq!(answer.text(), "late");
    assert_eq!(client.expect_end().await, Cut::Eof);
}

#[tokio::test]
async fn an_endless_body_is_read_as_far_as_wanted() {
    let origin = Origin::start(Reply::new(200).endless("0123456789"));
    let mut client = RawClient::connect(origin.address()).await;
    client.set_body_mode(BodyMode::Digest);
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut answer = client.read_head("GET").await;
    client.read_body(&mut answer, 1_000_000).await;
    assert!(answer.body_length >= 1_000_000 && answer.body.is_empty());
    assert_eq!(answer.end, End::Arriving);
    client.reset();
    assert!(origin.wait_closed().await[0].sent > 1_000_000);
}

#[tokio::test]
async fn bytes_are_read_without_regard_to_their_meaning() {
    let origin = Origin::start(Reply::raw("no http at all").then_close());
    let mut client = RawClient::connect(origin.address()).await;
    client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(client.read_bytes(3).await, b"no ");
    assert_eq!(client.read_to_end().await, (b"http at all".to_vec(), Cut::Eof));
}
