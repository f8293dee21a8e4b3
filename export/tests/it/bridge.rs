//! Bridges: the files of a store arrive in a directory, whole and verified, and stay there whatever happens to the store.

use std::{io::Write as _, path::PathBuf, time::Duration};

use bytes::Bytes;
use export::{
    bridge::{Bridge, Config, Pull},
    sink::{Manifest, SinkErrorKind},
};
use flate2::{Compression, write::GzEncoder};
use runtime::{drain::Drain, readiness::Readiness};

use crate::{
    bed::{self, Bed, document, writer},
    front::Fault,
    web::Instead,
};

fn config(bed: &Bed, from: &str, to: &str) -> Config {
    let to = format!("{}/{to}", bed.directory().join("pulled").display());
    Config {
        name: "test".into(),
        from: bed.target(from),
        to: to.parse().expect("a valid place"),
        interval: Duration::from_millis(20),
        require_manifest: false,
        timeout: Duration::from_secs(30),
    }
}

fn bridge(bed: &Bed, config: Config) -> Bridge {
    Bridge::new(config, &bed.connect, Readiness::new().register("bridge")).expect("it can be used")
}

fn pulled(bed: &Bed, name: &str) -> Option<String> {
    std::fs::read_to_string(bed.directory().join("pulled").join(name)).ok()
}

fn path(bed: &Bed, name: &str) -> PathBuf {
    bed.directory().join("pulled").join(name)
}

async fn write(bed: &Bed, text: &str) {
    let mut sink = bed.open("edge.yml", true);
    sink.put(&[document("", text)], &writer("a"), None).await.expect("it is written");
}

#[tokio::test]
async fn one_file_comes_with_its_name_and_only_when_it_changed() {
    for bed in [bed::s3s().await, bed::minio().await, bed::http().await] {
        let mut bridge = bridge(&bed, config(&bed, "edge.yml", ""));
        assert_eq!(bridge.pull().await.expect("the store answers"), Pull::Missing);
        write(&bed, "one").await;
        assert_eq!(bridge.pull().await, Ok(Pull::Written));
        assert_eq!(pulled(&bed, "edge.yml").as_deref(), Some("one"));
        assert_eq!(bridge.pull().await, Ok(Pull::Unchanged));
        write(&bed, "two").await;
        assert_eq!(bridge.pull().await, Ok(Pull::Written));
        assert_eq!(pulled(&bed, "edge.yml").as_deref(), Some("two"));
        // The local file was removed by another process.
        std::fs::remove_file(path(&bed, "edge.yml")).expect("it was there");
        assert_eq!(bridge.pull().await, Ok(Pull::Written));
        assert_eq!(pulled(&bed, "edge.yml").as_deref(), Some("two"));
    }
}

#[tokio::test]
async fn a_file_that_differs_from_its_manifest_is_not_pulled() {
    let bed = bed::s3s().await;
    write(&bed, "one").await;
    let mut bridge = bridge(&bed, config(&bed, "edge.yml", "here.yml"));
    assert_eq!(bridge.pull().await, Ok(Pull::Written));
    bed.write("edge.yml", "of a writer that was overtaken").await;
    assert_eq!(bridge.pull().await, Ok(Pull::Mismatch));
    assert_eq!(pulled(&bed, "here.yml").as_deref(), Some("one"));
    write(&bed, "two").await;
    assert_eq!(bridge.pull().await, Ok(Pull::Written));
    assert_eq!(pulled(&bed, "here.yml").as_deref(), Some("two"));
    bed.write("edge.yml.manifest", "{}").await;
    let error = bridge.pull().await.expect_err("it is no manifest");
    assert!(error.kind == SinkErrorKind::Refused && error.what.contains("edge.yml.manifest"), "{error}");
}

#[tokio::test]
async fn a_manifest_is_needed_only_where_it_is_asked_for() {
    let bed = bed::s3s().await;
    bed.open("edge.yml", false).put(&[document("", "one: 1")], &writer("a"), None).await.expect("it is written");
    let strict = Config { require_manifest: true, ..config(&bed, "edge.yml", "") };
    assert_eq!(bridge(&bed, strict).pull().await, Ok(Pull::Missing));
    assert_eq!(bridge(&bed, config(&bed, "edge.yml", "")).pull().await, Ok(Pull::Written));
}

#[tokio::test]
async fn a_set_comes_as_a_whole_and_leaves_others_alone() {
    let bed = bed::s3s().await;
    let mut sink = bed.open("set/", false);
    let (x, y) = (document("x.json", "x"), document("y.json", "y"));
    sink.put(&[x.clone(), y.clone()], &writer("a"), None).await.expect("it is written");
    let mut bridge = bridge(&bed, config(&bed, "set/", ""));
    assert_eq!(bridge.pull().await, Ok(Pull::Written));
    assert_eq!((pulled(&bed, "x.json"), pulled(&bed, "y.json")), (Some("x".into()), Some("y".into())));
    std::fs::write(path(&bed, "theirs"), "theirs").expect("it can be written");
    sink.put(&[x], &writer("a"), None).await.expect("it is written");
    assert_eq!(bridge.pull().await, Ok(Pull::Written));
    assert_eq!((pulled(&bed, "x.json"), pulled(&bed, "y.json")), (Some("x".into()), None));
    assert_eq!(pulled(&bed, "theirs").as_deref(), Some("theirs"));
}

#[tokio::test]
async fn a_manifest_cannot_name_files_elsewhere() {
    let bed = bed::s3s().await;
    let mut sink = bed.open("set/", false);
    sink.put(&[document("x", "x")], &writer("a"), None).await.expect("it is written");
    bed.write("evil", "evil").await;
    let bytes = bed.read("set/fanfare.manifest").await.expect("it is there");
    let mut manifest = Manifest::parse(&bytes).expect("it is one");
    manifest.sha256.insert("../evil".into(), export::sink::sha256(b"evil"));
    bed.write("set/fanfare.manifest", std::str::from_utf8(&manifest.to_bytes()).expect("it is text")).await;
    let mut bridge = bridge(&bed, config(&bed, "set/", ""));
    let pulled = bridge.pull().await;
    assert!(pulled.as_ref().is_err() || pulled == Ok(Pull::Missing), "{pulled:?}");
    assert!(!bed.directory().join("evil").exists());
}

/// Answers other than the file, from a proxy in front of a store or from its successor.
fn no_files() -> Vec<(&'static str, Instead)> {
    let answer = |status: u16, fields: &[(&'static str, &'static str)], body: &'static [u8]| Instead {
        status,
        fields: fields.to_vec(),
        body: Bytes::from_static(body),
    };
    vec![
        ("204 No Content", answer(204, &[], b"")),
        ("206 Partial Content", answer(206, &[], b"{}")),
        (
            "302 Found to https://u:***@login.example/",
            answer(302, &[("location", "https://u:p@login.example/?key=secret")], b""),
        ),
        ("it is empty", answer(200, &[], b"")),
        ("it is packed with gzip", answer(200, &[("content-type", "application/yaml")], b"\x1f\x8b\x08\x00\x00")),
        ("content coding \"br\"", answer(200, &[("content-encoding", "br")], b"\x0b\x02\x80")),
        ("packed with gzip, and is not", answer(200, &[("content-encoding", "gzip")], b"one: 1\n")),
        ("a web page", answer(200, &[("content-type", "text/html")], b"<p>Log in</p>")),
        ("a web page", answer(200, &[], b"<!doctype html><p>Log in</p>")),
        ("not YAML", answer(200, &[("content-type", "text/plain")], b"one: [1, 2")),
        ("neither a map nor a list", answer(200, &[], b"Log in")),
    ]
}

#[tokio::test]
async fn an_implausible_file_is_not_pulled_and_readiness_says_why() {
    let bed = bed::http().await;
    bed.write("edge.yml", "one: 1\n").await;
    let web = bed.web.as_ref().expect("it is one");
    let (readiness, drain) = (Readiness::new(), Drain::new());
    let bridge =
        Bridge::new(config(&bed, "edge.yml", ""), &bed.connect, readiness.register("bridge")).expect("it can be used");
    let running = tokio::spawn(bridge.run(drain.watch()));
    testkit::eventually!("readiness", readiness.is_ready(), |ready| *ready);
    for (why, instead) in no_files() {
        *web.state.instead.lock() = Some(instead);
        let told =
            testkit::eventually!(why, readiness.check(), |ready| ready.as_ref().is_err_and(|told| told.contains(why)));
        let told = told.expect_err("the wait above ensures it");
        assert!(told.contains("the files pulled before are kept") && !told.contains("secret"), "{told}");
        assert_eq!(pulled(&bed, "edge.yml").as_deref(), Some("one: 1\n"), "{why}");
        *web.state.instead.lock() = None;
        testkit::eventually!("readiness again", readiness.is_ready(), |ready| *ready);
    }
    drain.start();
    testkit::eventually::within("the end", running).await.expect("it does not panic");
}

#[tokio::test]
async fn encoded_files_are_decoded() {
    let bed = bed::http().await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(b"one: 1\n").expect("memory takes it");
    let body = encoder.finish().expect("memory takes it").into();
    let fields = vec![("content-encoding", "gzip"), ("content-type", "application/yaml")];
    let web = bed.web.as_ref().expect("it is one");
    *web.state.instead.lock() = Some(Instead { status: 200, fields, body });
    assert_eq!(bridge(&bed, config(&bed, "edge.yml", "")).pull().await, Ok(Pull::Written));
    assert_eq!(pulled(&bed, "edge.yml").as_deref(), Some("one: 1\n"));
}

#[tokio::test]
async fn a_file_with_a_manifest_is_accepted_by_its_hash() {
    for bed in [bed::s3s().await, bed::http().await] {
        write(&bed, "Log in").await;
        assert_eq!(bridge(&bed, config(&bed, "edge.yml", "")).pull().await, Ok(Pull::Written));
        assert_eq!(pulled(&bed, "edge.yml").as_deref(), Some("Log in"));
    }
}

#[tokio::test]
async fn files_that_stay_different_from_their_manifest_are_told() {
    let bed = bed::s3s().await;
    write(&bed, "one").await;
    let (readiness, drain) = (Readiness::new(), Drain::new());
    let bridge =
        Bridge::new(config(&bed, "edge.yml", ""), &bed.connect, readiness.register("bridge")).expect("it can be used");
    let running = tokio::spawn(bridge.run(drain.watch()));
    testkit::eventually!("readiness", readiness.is_ready(), |ready| *ready);
    bed.write("edge.yml", "of a writer that was overtaken").await;
    let told =
        |ready: &Result<(), String>| ready.as_ref().is_err_and(|why| why.contains("does not match its manifest"));
    let _told = testkit::eventually!("the difference to be told", readiness.check(), told);
    assert_eq!(pulled(&bed, "edge.yml").as_deref(), Some("one"));
    drain.start();
    testkit::eventually::within("the end", running).await.expect("it does not panic");
}

#[tokio::test]
async fn it_follows_the_store_and_outlives_its_faults() {
    let bed = bed::minio().await;
    write(&bed, "one").await;
    let (readiness, drain) = (Readiness::new(), Drain::new());
    let bridge =
        Bridge::new(config(&bed, "edge.yml", ""), &bed.connect, readiness.register("bridge")).expect("it can be used");
    assert!(!readiness.is_ready());
    let running = tokio::spawn(bridge.run(drain.watch()));
    testkit::eventually!("the first pull", pulled(&bed, "edge.yml"), |text| text.as_deref() == Some("one"));
    testkit::eventually!("readiness", readiness.is_ready(), |ready| *ready);
    let front = bed.front.as_ref().expect("it has one");
    front.fault(Fault::Status(503));
    let before = front.counts().0;
    testkit::eventually!("two more looks", front.counts().0, |now| *now >= before + 2);
    assert_eq!(pulled(&bed, "edge.yml").as_deref(), Some("one"));
    assert!(readiness.is_ready(), "what is there is still good");
    front.fault(Fault::None);
    write(&bed, "two").await;
    testkit::eventually!("the next pull", pulled(&bed, "edge.yml"), |text| text.as_deref() == Some("two"));
    drain.start();
    testkit::eventually::within("the end", running).await.expect("it does not panic");
}

#[tokio::test]
async fn ends_that_do_not_fit_are_refused() {
    let bed = bed::file().await;
    for (from, to, why) in [("set/", "one.yml", "end it with `/`"), ("edge.yml", "", "")] {
        let made = Bridge::new(config(&bed, from, to), &bed.connect, Readiness::new().register("bridge"));
        match made {
            Ok(_) => assert_eq!(why, "", "{from} to {to}"),
            Err(error) => assert!(!why.is_empty() && error.what.contains(why), "{error}"),
        }
    }
    let config = Config { to: "s3://bucket/key".parse().expect("a place"), ..config(&bed, "edge.yml", "") };
    assert!(Bridge::new(config, &bed.connect, Readiness::new().register("bridge")).is_err());
}
