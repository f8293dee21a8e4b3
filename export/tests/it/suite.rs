//! What every sink must do, on every kind of place.

use std::slice;

use export::sink::{Done, Manifest, SinkErrorKind, Term, Writer, sha256};

use crate::bed::{self, Bed, document, writer};

/// Each test of the suite on each kind of place.
macro_rules! on_every_place {
    ($($test:ident),* $(,)?) => {
        on_every_place!(@ s3s, [$($test),*]);
        on_every_place!(@ minio, [$($test),*]);
        on_every_place!(@ file, [$($test),*]);
        on_every_place!(@ config_map, [$($test),*]);
        on_every_place!(@ http, [$($test),*]);
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

on_every_place!(
    only_what_changed_is_written,
    what_somebody_else_did_is_repaired,
    a_later_writer_takes_over_and_the_earlier_one_stops,
    terms_decide_between_writers,
    a_set_keeps_to_what_is_its_own,
    names_lead_nowhere_else,
    a_reader_never_sees_half_a_file,
);

fn done(written: usize, unchanged: usize, removed: usize) -> Done {
    Done { written, unchanged, removed, conflicts: 0 }
}

async fn only_what_changed_is_written(bed: Bed) {
    let mut sink = bed.open("edge.yml", false);
    let a = writer("a");
    assert_eq!(sink.put(&[document("", "one")], &a, None).await, Ok(done(1, 0, 0)));
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("one"));
    assert_eq!(sink.put(&[document("", "one")], &a, None).await, Ok(done(0, 1, 0)));
    assert_eq!(sink.put(&[document("", "two")], &a, None).await, Ok(done(1, 0, 0)));
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("two"));

    // After a restart it reads the existing files.
    let before = bed.front.as_ref().map(|front| front.counts().1);
    let mut sink = bed.open("edge.yml", false);
    assert_eq!(sink.put(&[document("", "two")], &a, None).await, Ok(done(0, 1, 0)));
    assert_eq!(bed.front.as_ref().map(|front| front.counts().1), before, "nothing was written");
    assert_eq!(sink.put(&[document("", "three")], &a, None).await, Ok(done(1, 0, 0)));
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("three"));
    assert_eq!(bed.text("edge.yml.manifest").await, None, "none was asked for");
}

async fn what_somebody_else_did_is_repaired(bed: Bed) {
    let mut sink = bed.open("edge.yml", false);
    let a = writer("a");
    sink.put(&[document("", "one")], &a, None).await.expect("it is written");
    bed.write("edge.yml", "not ours").await;
    let put = sink.put(&[document("", "two")], &a, None).await.expect("it is written");
    assert_eq!(put.conflicts, usize::from(bed.conditional), "the condition has shown it");
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("two"));
    bed.write("edge.yml", "not ours").await;
    sink.forget();
    assert_eq!(sink.put(&[document("", "two")], &a, None).await, Ok(done(1, 0, 0)));
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("two"));
}

async fn manifest(bed: &Bed, name: &str) -> Manifest {
    let bytes = bed.read(name).await.unwrap_or_else(|| panic!("there is a {name}"));
    Manifest::parse(&bytes).expect("a valid manifest")
}

async fn a_later_writer_takes_over_and_the_earlier_one_stops(bed: Bed) {
    let (a, b) = (writer("a"), writer("b"));
    let mut first = bed.open("edge.yml", true);
    first.put(&[document("", "of a")], &a, None).await.expect("it is written");
    let made = manifest(&bed, "edge.yml.manifest").await;
    assert_eq!((made.writer.as_str(), made.version, made.term), ("a", 1, None));
    assert_eq!(made.sha256["edge.yml"], sha256(b"of a"));
    // Without a change nothing is written.
    assert_eq!(first.put(&[document("", "of a")], &a, None).await, Ok(done(0, 1, 0)));
    assert_eq!(manifest(&bed, "edge.yml.manifest").await.version, 1);

    let mut second = bed.open("edge.yml", true);
    second.put(&[document("", "of b")], &b, None).await.expect("it takes over");
    assert_eq!(manifest(&bed, "edge.yml.manifest").await.writer, "b");
    if !bed.conditional {
        first.forget();
    }
    for _ in 0..2 {
        let stopped = first.put(&[document("", "late")], &a, None).await.expect_err("it was overtaken");
        assert_eq!(stopped.kind, SinkErrorKind::Foreign, "{stopped}");
        assert!(stopped.what.contains("`b` writes to this place now"), "{stopped}");
    }
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("of b"));
    second.put(&[document("", "of b again")], &b, None).await.expect("it goes on");
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("of b again"));

    let elsewhere = Writer { cluster: "other".into(), ..writer("c") };
    let refused = bed.open("edge.yml", true).put(&[document("", "of c")], &elsewhere, None).await;
    let refused = refused.expect_err("it is of another cluster");
    assert!(refused.kind == SinkErrorKind::Foreign && refused.what.contains("cluster `edge`"), "{refused}");
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("of b again"));
}

async fn terms_decide_between_writers(bed: Bed) {
    let led = |id: &str, transitions| Writer { term: Some(Term { uid: "lock".into(), transitions }), ..writer(id) };
    let (mut a, mut b) = (bed.open("edge.yml", true), bed.open("edge.yml", true));
    a.put(&[document("", "term 1")], &led("a", 1), None).await.expect("it is written");
    b.put(&[document("", "term 2")], &led("b", 2), None).await.expect("it takes over");
    if !bed.conditional {
        a.forget();
    }
    let late = a.put(&[document("", "late")], &led("a", 1), None).await.expect_err("its term has passed");
    assert_eq!(late.kind, SinkErrorKind::Foreign, "{late}");
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("term 2"));
    // It leads again.
    a.put(&[document("", "term 3")], &led("a", 3), None).await.expect("its term is the latest");
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("term 3"));
    let made = manifest(&bed, "edge.yml.manifest").await;
    assert_eq!((made.version, made.term.map(|term| term.transitions)), (3, Some(3)));
    // The same bytes in another term: only the manifest changes, so that late writes of the old term fail.
    assert_eq!(b.put(&[document("", "term 3")], &led("b", 4), None).await, Ok(done(0, 1, 0)));
    assert_eq!(manifest(&bed, "edge.yml.manifest").await.writer, "b");
}

async fn a_set_keeps_to_what_is_its_own(bed: Bed) {
    let a = writer("a");
    // Creates the bucket of a place that has one.
    bed.open("other", false).put(&[document("", "of another export")], &a, None).await.expect("it is written");
    bed.write("theirs.json", "theirs").await;
    let mut sink = bed.open("", false);
    let (x, y) = (document("x.json", "x"), document("y.json", "y"));
    assert_eq!(sink.put(&[x.clone(), y.clone()], &a, None).await, Ok(done(2, 0, 0)));
    let taken = sink.put(&[x.clone(), document("theirs.json", "ours")], &a, None).await.expect_err("it is not ours");
    assert!(taken.kind == SinkErrorKind::Refused && taken.what.contains("theirs.json"), "{taken}");
    assert_eq!(bed.text("theirs.json").await.as_deref(), Some("theirs"));

    // It recognises its own files after a restart, too.
    let mut sink = bed.open("", false);
    assert_eq!(sink.put(slice::from_ref(&x), &a, None).await, Ok(done(0, 1, 1)));
    assert_eq!(bed.text("y.json").await, None);
    assert_eq!(bed.text("theirs.json").await.as_deref(), Some("theirs"));
    assert_eq!(manifest(&bed, "fanfare.manifest").await.sha256.into_keys().collect::<Vec<_>>(), ["x.json"]);

    // A file that another writer has changed is not removed.
    sink.put(&[x.clone(), y.clone()], &a, None).await.expect("it is written");
    bed.write("y.json", "edited").await;
    sink.forget();
    assert_eq!(sink.put(slice::from_ref(&x), &a, None).await, Ok(done(0, 1, 0)));
    assert_eq!(bed.text("y.json").await.as_deref(), Some("edited"));
}

async fn names_lead_nowhere_else(bed: Bed) {
    let mut sink = bed.open("", false);
    for name in ["../x", "a/../../x", "/x", "", "a//b", "fanfare.manifest"] {
        let refused = sink.put(&[document(name, "x")], &writer("a"), None).await.expect_err(name);
        assert_eq!(refused.kind, SinkErrorKind::Refused, "{refused}");
    }
    let twice = [document("x", "1"), document("x", "2")];
    assert!(sink.put(&twice, &writer("a"), None).await.is_err_and(|error| error.what.contains("same name")));
    let mut one = bed.open("x", false);
    let two = [document("x", "1"), document("y", "2")];
    assert!(one.put(&two, &writer("a"), None).await.is_err_and(|error| error.what.contains("one file only")));
}

async fn a_reader_never_sees_half_a_file(bed: Bed) {
    let texts = ["first ", "2nd "].map(|word| word.repeat(20_000));
    let mut sink = bed.open("edge.yml", false);
    let a = writer("a");
    sink.put(&[document("", texts[0].clone())], &a, None).await.expect("it is written");
    let writing = async {
        for n in 1..=20 {
            sink.put(&[document("", texts[n % 2].clone())], &a, None).await.expect("it is written");
        }
    };
    let reading = async {
        loop {
            let seen = bed.text("edge.yml").await.expect("it is always there");
            assert!(texts.contains(&seen), "a part of {} bytes", seen.len());
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = writing => {}
        () = reading => {}
    }
}

#[tokio::test]
async fn a_config_map_is_not_filled_beyond_what_it_holds() {
    let bed = bed::config_map().await;
    let mut sink = bed.open("edge.yml", false);
    let a = writer("a");
    sink.put(&[document("", "small")], &a, None).await.expect("it is written");
    let large = "x".repeat(1 << 20);
    let refused = sink.put(&[document("", large)], &a, None).await.expect_err("it is too large");
    assert_eq!(refused.kind, SinkErrorKind::Refused);
    assert!(refused.what.contains("holds at most 1048576"), "{refused}");
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("small"));
}
