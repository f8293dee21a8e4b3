//! Stores that are down, slow, or answer 403, 412 and 500: their files stay whole, and the next attempt succeeds.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use export::sink::{Done, Sink, SinkError, SinkErrorKind, Target};
use hyper::Method;
use kubekit::cluster;

use crate::{
    bed::{self, Bed, document, writer},
    front::{Fault, Front},
};

/// Each test on each kind of place behind HTTP.
macro_rules! on_every_store {
    ($($test:ident),* $(,)?) => {
        on_every_store!(@ s3s, [$($test),*]);
        on_every_store!(@ minio, [$($test),*]);
        on_every_store!(@ http, [$($test),*]);
    };
    (@ $place:ident, [$($test:ident),*]) => {
        mod $place {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(crate::bed::$place().await).await;
                }
            )*
        }
    };
}

on_every_store!(
    a_fault_leaves_what_was_there_and_passes,
    a_slow_store_is_given_up_in_time,
    a_lost_answer_is_no_lost_write,
    a_store_that_cannot_be_read_is_written_to,
);

async fn put(sink: &mut Sink, text: &str) -> Result<Done, SinkError> {
    sink.put(&[document("", text)], &writer("a"), None).await
}

fn front(bed: &Bed) -> &Front {
    bed.front.as_ref().expect("it has a front")
}

async fn a_fault_leaves_what_was_there_and_passes(bed: Bed) {
    let mut sink = bed.open("edge.yml", true);
    put(&mut sink, "0").await.expect("it is written");
    let faults = [
        (Fault::Status(500), SinkErrorKind::Unavailable),
        (Fault::Status(503), SinkErrorKind::Unavailable),
        (Fault::Status(403), SinkErrorKind::Denied),
        (Fault::Status(412), SinkErrorKind::Conflict),
        (Fault::Close, SinkErrorKind::Unavailable),
    ];
    for (n, (fault, kind)) in faults.into_iter().enumerate() {
        front(&bed).write_fault(fault);
        let before = front(&bed).counts().1;
        let error = put(&mut sink, &format!("{}", n + 1)).await.expect_err("the store is in trouble");
        assert_eq!(error.kind, kind, "{fault:?}: {error}");
        assert!(error.place.contains("edge.yml"), "{error}");
        assert!(front(&bed).counts().1 - before <= 4, "it does not hammer a store in trouble");
        assert_eq!(bed.text("edge.yml").await, Some(format!("{n}")), "{fault:?}");
        front(&bed).fault(Fault::None);
        put(&mut sink, &format!("{}", n + 1)).await.unwrap_or_else(|error| panic!("after {fault:?}: {error}"));
        assert_eq!(bed.text("edge.yml").await, Some(format!("{}", n + 1)));
    }
}

async fn a_slow_store_is_given_up_in_time(mut bed: Bed) {
    bed.connect.timeout = Duration::from_secs(2);
    let mut sink = bed.open("edge.yml", false);
    front(&bed).fault(Fault::Hang);
    let began = Instant::now();
    let error = put(&mut sink, "1").await.expect_err("nothing answers");
    assert_eq!(error.kind, SinkErrorKind::Unavailable, "{error}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    front(&bed).fault(Fault::None);
    put(&mut sink, "1").await.expect("it answers again");
}

async fn a_lost_answer_is_no_lost_write(bed: Bed) {
    let mut sink = bed.open("edge.yml", true);
    put(&mut sink, "1").await.expect("it is written");
    front(&bed).write_fault(Fault::CloseAfter);
    // The manifest was written without an answer, and so is the file afterwards.
    for _ in 0..3 {
        let error = put(&mut sink, "2").await;
        assert!(
            error.as_ref().is_err_and(|error| error.kind == SinkErrorKind::Unavailable) || error.is_ok(),
            "{error:?}"
        );
    }
    front(&bed).write_fault(Fault::None);
    let done = put(&mut sink, "2").await.expect("it is ours");
    assert_eq!((done.unchanged, done.conflicts), (1, 0), "it was written before");
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("2"));
}

async fn a_store_that_cannot_be_read_is_written_to(bed: Bed) {
    let mut sink = bed.open("edge.yml", false);
    put(&mut sink, "0").await.expect("it is written");
    front(&bed).read_fault(Fault::Status(403));
    let mut sink = bed.open("edge.yml", false);
    assert_eq!(put(&mut sink, "1").await.map(|done| done.written), Ok(1));
    assert_eq!(put(&mut sink, "1").await.map(|done| done.unchanged), Ok(1));
    sink.forget();
    assert_eq!(put(&mut sink, "1").await.map(|done| done.unchanged), Ok(1), "it knows what it wrote");
    assert_eq!(put(&mut sink, "2").await.map(|done| done.written), Ok(1));
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_store_that_is_down_is_told_as_such() {
    let bed = bed::s3s().await;
    let mut sink = bed.open("edge.yml", false);
    let Bed { front, .. } = bed;
    drop(front);
    // The front's task has ended when the port refuses.
    let error = testkit::eventually!("the port to refuse", put(&mut sink, "1").await, Result::is_err);
    assert_eq!(error.expect_err("it is down").kind, SinkErrorKind::Unavailable);
}

#[tokio::test]
async fn a_missing_bucket_that_is_not_to_be_made_is_told() {
    let mut bed = bed::minio().await;
    bed.connect.s3.create_bucket = false;
    let mut sink = bed.open("edge.yml", false);
    let error = put(&mut sink, "1").await.expect_err("there is none");
    assert!(error.kind == SinkErrorKind::Refused && error.what.contains("no such bucket"), "{error}");
    bed.connect.s3.create_bucket = true;
    put(&mut bed.open("edge.yml", false), "1").await.expect("it is made");
}

#[tokio::test]
async fn wrong_keys_are_told() {
    let mut bed = bed::minio().await;
    bed.connect.s3.keys = Some(("administrator".into(), "wrong-secret".into()));
    let error = put(&mut bed.open("edge.yml", false), "1").await.expect_err("they are wrong");
    assert_eq!(error.kind, SinkErrorKind::Denied, "{error}");
    assert!(!error.to_string().contains("wrong-secret") && !format!("{:?}", bed.connect.s3).contains("wrong-secret"));
}

#[tokio::test]
async fn a_server_that_ignores_conditions_is_found_out_and_written_to() {
    let bed = bed::http().await;
    let web = bed.web.as_ref().expect("it is one");
    web.state.ignores_conditions.store(true, Ordering::Relaxed);
    let mut sink = bed.open("edge.yml", false);
    assert_eq!(put(&mut sink, "1").await.map(|done| done.written), Ok(1));
    let puts = || web.state.methods.lock().iter().filter(|method| **method == Method::PUT).count();
    assert_eq!(puts(), 1, "the try was the write");
    bed.write("edge.yml", "somebody").await;
    let done = put(&mut sink, "2").await.expect("it is written");
    assert_eq!((done.written, done.conflicts), (1, 0));
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("2"));
}

#[tokio::test]
async fn a_server_that_only_takes_files_gets_each_once() {
    let bed = bed::http().await;
    let web = bed.web.as_ref().expect("it is one");
    web.state.write_only.store(true, Ordering::Relaxed);
    let mut sink = bed.open("edge.yml", false);
    for _ in 0..3 {
        put(&mut sink, "1").await.expect("it takes it");
        sink.forget();
    }
    let puts = web.state.methods.lock().iter().filter(|method| **method == Method::PUT).count();
    assert_eq!(puts, 1);
    assert_eq!(web.state.files.lock()["/edge.yml"], "1");
}

#[tokio::test]
async fn nothing_is_begun_after_the_right_to_write_has_ended() {
    for bed in [bed::s3s().await, bed::file().await] {
        let mut sink = bed.open("edge.yml", true);
        let late = sink.put(&[document("", "late")], &writer("a"), Some(Instant::now())).await;
        assert!(late.as_ref().is_err_and(|error| error.what.contains("the right to write has ended")), "{late:?}");
        assert_eq!(bed.text("edge.yml").await, None);
        assert_eq!(bed.text("edge.yml.manifest").await, None);
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_told() {
    let bed = bed::file().await;
    std::fs::write(bed.directory().join("made"), "a file in the way").expect("it can be written");
    let error = put(&mut bed.open("edge.yml", false), "1").await.expect_err("a file is in the way");
    assert!(error.place.ends_with("made/edge.yml"), "{error}");
}

#[tokio::test]
async fn a_missing_namespace_of_a_config_map_is_told() {
    let mut bed = bed::config_map().await;
    let cluster = cluster::shared().await;
    bed.connect.kubernetes = Some(cluster.client().await);
    let target: Target = "configmap://there-is-none/backends/edge.yml".parse().expect("a place");
    let mut sink = target.open(&bed.connect).expect("it can be used");
    let error = put(&mut sink, "1").await.expect_err("there is no such namespace");
    assert!(error.kind == SinkErrorKind::Refused && error.what.contains("no namespace there-is-none"), "{error}");
}

#[tokio::test]
async fn the_text_of_an_error_is_not_read_as_its_status() {
    for (status, kind) in
        [(503, SinkErrorKind::Unavailable), (400, SinkErrorKind::Refused), (429, SinkErrorKind::Unavailable)]
    {
        let bed = bed::s3s().await;
        let mut sink = bed.open("edge.yml", false);
        front(&bed).write_fault(Fault::Says(status, "<Message>code: 501 NoSuchBucket NotImplemented</Message>"));
        let error = put(&mut sink, "1").await.expect_err("the store is in trouble");
        assert_eq!(error.kind, kind, "{error}");
    }
}

#[tokio::test]
async fn a_password_in_a_url_goes_to_the_server_and_is_shown_nowhere() {
    let bed = bed::http().await;
    let place = bed.target("edge.yml").to_string().replace("http://", "http://user:secret@");
    let target: Target = place.parse().expect("a place");
    let mut sink = target.open(&bed.connect).expect("it can be used");
    put(&mut sink, "1").await.expect("it is written");
    let web = bed.web.as_ref().expect("it is one");
    // printf user:secret | base64
    assert!(web.state.authorizations.lock().iter().all(|field| field == "Basic dXNlcjpzZWNyZXQ="));
    front(&bed).fault(Fault::Status(500));
    let refused = put(&mut sink, "2").await.expect_err("the server is in trouble");
    front(&bed).fault(Fault::Close);
    let closed = put(&mut sink, "3").await.expect_err("the server is in trouble");
    let invalid = format!("{place}?X-Amz-Signature=secret").parse::<Target>().expect_err("it has a query");
    let json = serde_json::to_string(&target).expect("text");
    for shown in
        [refused.to_string(), closed.to_string(), invalid.to_string(), target.to_string(), json, sink.to_string()]
    {
        assert!(!shown.contains("secret"), "{shown}");
    }
}
