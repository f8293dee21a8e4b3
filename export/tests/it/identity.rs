//! A pod's token is enough: keys come from whoever hands them out for it, over TLS alone.

use std::{env, net::SocketAddr, path::Path, process::Stdio, sync::Arc};

use export::sink::{S3Options, Target};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use testkit::origin::{Origin, Reply};
use tokio::{
    net::{TcpListener, TcpStream},
    process::Command,
};
use tokio_rustls::TlsAcceptor;

use crate::bed::{self, KEYS, document, writer};

/// Set in the process that writes: the store's address, and whom it trusts.
const ENDPOINT: &str = "EXPORT_IDENTITY_ENDPOINT";
const TRUSTED: &str = "EXPORT_IDENTITY_TRUSTED";

/// TLS in front of an origin; whom to trust stands in the file then.
async fn secured(origin: &Origin, trusted: &Path) -> SocketAddr {
    let mut params = CertificateParams::new(Vec::new()).expect("no names are valid names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = || KeyPair::generate().expect("a key can be made");
    let issuer = CertifiedIssuer::self_signed(params, key()).expect("it can vouch for itself");
    std::fs::write(trusted, issuer.pem()).expect("it can be written");
    let key = key();
    let params = CertificateParams::new(vec!["127.0.0.1".into()]).expect("a valid name");
    let certificate = params.signed_by(&key, &issuer).expect("it can vouch for others");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("it is a key");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key);
    let tls = TlsAcceptor::from(Arc::new(config.expect("they belong together")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let (address, to) = (listener.local_addr().expect("it is bound"), origin.address());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let tls = tls.clone();
            tokio::spawn(async move {
                let Ok(mut client) = tls.accept(stream).await else { return };
                let Ok(mut server) = TcpStream::connect(to).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_web_identity_is_enough() {
    // The inner run: only its environment says what it may.
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
    let issuer = secured(&origin, &trusted).await;
    let mut command = Command::new(env::current_exe().expect("the test binary has a path"));
    command.args(["--exact", testkit::test_name!()]).kill_on_drop(true).stdout(Stdio::piped()).envs([
        (ENDPOINT, bed.connect.s3.endpoint.clone().expect("it has one")),
        (TRUSTED, trusted.display().to_string()),
        ("AWS_ENDPOINT_URL_STS", format!("https://{issuer}")),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", token.display().to_string()),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/edge".into()),
    ]);
    let output = testkit::eventually::within("the write", command.output()).await.expect("it can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some("one"));
    let asked = origin.requests().remove(0).complete();
    let asked = format!("{} {}", asked.target, String::from_utf8_lossy(&asked.body));
    assert!(asked.contains("token-of-the-pod") && asked.contains("AssumeRoleWithWebIdentity"), "{asked}");
}
