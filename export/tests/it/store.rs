//! Metadata of objects and settings of buckets. The numbers are those of `docs/migrating.md`.

use object_store::{Attribute, ObjectStoreExt as _, aws::AmazonS3, path::Path};

use crate::bed::{self, document, writer};

async fn written() -> Box<AmazonS3> {
    let bed = bed::minio().await;
    bed.open("edge.yml", true).put(&[document("", "{}")], &writer("a"), None).await.expect("it is written");
    bed.store()
}

/// 11: the bucket was created with object locking, which implies versions, so that nothing was ever deleted.
#[tokio::test]
async fn d11_a_bucket_that_is_made_keeps_no_versions() {
    let store = written().await;
    let got = store.get(&Path::from("edge.yml")).await.expect("it is there");
    assert_eq!(got.meta.version, None);
    store.delete(&Path::from("edge.yml")).await.expect("it is not locked");
    let gone = store.get(&Path::from("edge.yml")).await.expect_err("it is gone");
    assert!(matches!(gone, object_store::Error::NotFound { .. }), "{gone}");
}

/// 12: every object was `application/octet-stream`.
#[tokio::test]
async fn d12_an_object_says_what_it_is() {
    let store = written().await;
    for (key, content_type) in [("edge.yml", "application/yaml"), ("edge.yml.manifest", "application/json")] {
        let got = store.get(&Path::from(key)).await.expect("it is there");
        assert_eq!(got.attributes.get(&Attribute::ContentType).map(AsRef::as_ref), Some(content_type), "{key}");
    }
}
