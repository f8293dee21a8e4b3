//! Files served over HTTP: strong entity tags, 304, long polls.

use std::sync::Arc;

use export::sink::{Served, ServedRequest, ServedResponse, Sink, Target};
use runtime::if_none_match::IfNoneMatch;

use crate::bed::{self, document, writer};

async fn bed() -> (Arc<Served>, Sink) {
    let bed = bed::file().await;
    let target: Target = "serve:/edge.yml".parse().expect("a valid place");
    let served = bed.connect.served.clone().expect("it has one");
    served.expect("/edge.yml");
    (served, target.open(&bed.connect).expect("it can be used"))
}

async fn put(sink: &mut Sink, text: &str) {
    sink.put(&[document("", text)], &writer("a"), None).await.expect("memory takes it");
}

fn get(path: &str) -> ServedRequest<'_> {
    ServedRequest { method: "GET", path, ..ServedRequest::default() }
}

fn condition(value: &str) -> IfNoneMatch {
    [value].into_iter().collect()
}

fn field<'a>(answer: &'a ServedResponse, name: &str) -> &'a str {
    answer.fields.iter().find(|(field, _)| *field == name).map_or("", |(_, value)| value)
}

#[tokio::test]
async fn a_file_has_a_strong_tag_and_is_told_once() {
    let (served, mut sink) = bed().await;
    let early = served.answer(get("/edge.yml")).await;
    assert_eq!((early.status, field(&early, "retry-after")), (503, "1"), "nothing is known yet");
    assert_eq!(served.answer(get("/other")).await.status, 404);
    put(&mut sink, "one").await;
    let first = served.answer(get("/edge.yml")).await;
    assert_eq!((first.status, &first.body[..]), (200, &b"one"[..]));
    assert_eq!(field(&first, "content-type"), "application/yaml");
    let tag = field(&first, "etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() == 66, "{tag}");
    for known in [tag.clone(), format!("\"x\", {tag}"), format!("W/{tag}"), "*".into()] {
        let same = served.answer(ServedRequest { if_none_match: Some(&condition(&known)), ..get("/edge.yml") }).await;
        assert_eq!((same.status, same.body.len(), field(&same, "etag")), (304, 0, &*tag), "{known}");
    }
    put(&mut sink, "two").await;
    let other = served.answer(ServedRequest { if_none_match: Some(&condition(&tag)), ..get("/edge.yml") }).await;
    assert_eq!((other.status, &other.body[..]), (200, &b"two"[..]));
    let head = served.answer(ServedRequest { method: "HEAD", ..get("/edge.yml") }).await;
    assert_eq!(head, other, "whoever sends it leaves out the body");
    assert_eq!(served.answer(ServedRequest { method: "PUT", ..get("/edge.yml") }).await.status, 405);
}

#[tokio::test]
async fn a_long_poll_ends_with_a_change_or_in_time() {
    let (served, mut sink) = bed().await;
    put(&mut sink, "one").await;
    let first = served.answer(get("/edge.yml")).await;
    let (tag, index) = (field(&first, "etag").to_owned(), field(&first, "x-fanfare-index").to_owned());
    // This one times out.
    let by_tag = ServedRequest { query: Some("wait=20ms"), if_none_match: Some(&condition(&tag)), ..get("/edge.yml") };
    assert_eq!(served.answer(by_tag).await.status, 304);
    let query = format!("index={index}&wait=20ms");
    let by_index = ServedRequest { query: Some(&query), ..get("/edge.yml") };
    assert_eq!(field(&served.answer(by_index).await, "x-fanfare-index"), index);
    // Until the change, in both ways.
    let query = format!("wait=1m&index={index}&other=x");
    let by_tag = ServedRequest { query: Some("wait=1m"), if_none_match: Some(&condition(&tag)), ..get("/edge.yml") };
    let by_index = ServedRequest { query: Some(&query), ..get("/edge.yml") };
    let waiting = async { tokio::join!(served.answer(by_tag), served.answer(by_index)) };
    let change = async {
        tokio::task::yield_now().await;
        put(&mut sink, "two").await;
    };
    let ((by_tag, by_index), ()) =
        testkit::eventually::within("both to be answered", async { tokio::join!(waiting, change) }).await;
    assert_eq!((&by_tag.body[..], &by_index.body[..]), (&b"two"[..], &b"two"[..]));
    // An index from before a restart is no reason to wait.
    let from_before = ServedRequest { query: Some("index=900&wait=1m"), ..get("/edge.yml") };
    let answer = testkit::eventually::within("an answer at once", served.answer(from_before)).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn invalid_waits_are_refused_with_the_reason() {
    let (served, mut sink) = bed().await;
    put(&mut sink, "one").await;
    for (query, name) in [("wait=long", "wait=long"), ("index=x", "index=x"), ("wait=-1s", "wait=-1s")] {
        let answer = served.answer(ServedRequest { query: Some(query), ..get("/edge.yml") }).await;
        assert_eq!(answer.status, 400);
        assert!(String::from_utf8_lossy(&answer.body).contains(name));
    }
}

#[tokio::test]
async fn beyond_the_bound_only_requests_that_would_wait_are_refused() {
    let (served, mut sink) = bed().await;
    put(&mut sink, "one").await;
    let tag = field(&served.answer(get("/edge.yml")).await, "etag").to_owned();
    let question = ServedRequest { query: Some("wait=1m"), if_none_match: Some(&condition(&tag)), ..get("/edge.yml") };
    let full = || None::<()>;
    let refused = testkit::eventually::within("a refusal", served.answer_where(question, full)).await;
    assert_eq!((refused.status, field(&refused, "retry-after")), (503, "1"));
    assert_eq!(served.answer_where(get("/edge.yml"), full).await.status, 200, "it does not wait");
    put(&mut sink, "two").await;
    assert_eq!(served.answer_where(question, full).await.status, 200, "it need not wait");
}
