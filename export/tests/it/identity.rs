//! A pod's web identity token is enough: a token service exchanges it for keys, over TLS only.

use std::{env, process::Command};

use export::sink::{S3Options, Target};
use testkit::{
    origin::{Origin, Reply},
    pki::Authority,
    process::Process,
    tls_relay::TlsRelay,
};

use crate::bed::{self, KEYS, document, writer};

/// Set in the writing process: the store's address, and the trusted authority.
const ENDPOINT: &str = "EXPORT_IDENTITY_ENDPOINT";
const TRUSTED: &str = "EXPORT_IDENTITY_TRUSTED";

#[tokio::test]
async fn a_web_identity_is_enough() {
    // The inner run has its credentials from its environment only.
    if let (Ok(endpoint), Ok(trusted)) = (env::var(ENDPOINT), env::var(TRUSTED)) {
        let mut bed = bed::file().await;
        let (endpoint, ca_file) = (Some(endpoint), Some(trusted.into()));
        bed.connect.s3 = S3Options { endpoint, ca_file, create_bucket: true, ..S3Options::default() };
        let target: Target = "s3://bucket/edge.yml".parse().expect("a valid place");
        let mut sink = target.open(&bed.connect).expect("it can be used");
        let done = sink.put(&[document("", "one")], &writer("a"), None).await;
        done.unwrap_or_else(|error| panic!("{error}"));
        return;
    }
    let bed = bed::s3s().await;
    let (access, secret) = KEYS;
    let origin = Origin::start(Reply::ok(format!(
        "<AssumeRoleWithWebIdentityResponse><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>{access}</AccessKeyId>\
         <SecretAccessKey>{secret}</SecretAccessKey><SessionToken>session</SessionToken>\
         <Expiration>2999-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>\
         </AssumeRoleWithWebIdentityResponse>"
    )));
    let (trusted, token) = (bed.directory().join("trusted.pem"), bed.directory().join("token"));
    std::fs::write(&token, "token-of-the-pod").expect("it can be written");
    let authority = Authority::new("root");
    std::fs::write(&trusted, authority.pem()).expect("it can be written");
    let config = authority.issue(&["127.0.0.1"]).server(&[]);
    let issuer = TlsRelay::in_front("127.0.0.1:0", config, origin.address()).await;
    let mut command = Command::new(env::current_exe().expect("the test binary has a path"));
    command.args(["--exact", testkit::test_name!()]).envs([
        (ENDPOINT, bed.connect.s3.endpoint.clone().expect("it has one")),
        (TRUSTED, trusted.display().to_string()),
        ("AWS_ENDPOINT_URL_STS", format!("https://{}", issuer.address)),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.display().to_string()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/edge".into()),
    ]);
    let log = bed.directory().join("log");
    let mut inner = Process::spawn_command(command, &log).expect("it can be run");
    let status = testkit::eventually!("the write", inner.ended(), Option::is_some);
    assert!(status.is_some_and(|status| status.success()), "{}", inner.tail(20));
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("one"));
    let asked = origin.requests().remove(0).complete();
    let asked = format!("{} {}", asked.target, String::from_utf8_lossy(&asked.body));
    assert!(asked.contains("token-of-the-pod") && asked.contains("AssumeRoleWithWebIdentity"), "{asked}");
}
