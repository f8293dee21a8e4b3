//! The start of every role that needs Kubernetes: a server or plugin that does not answer does not delay it, and a signal ends it.

use kubekit::cluster;
use rustix::process::Signal;
use serde_json::json;
use testkit::{
    forward_proxy::{ForwardProxy, Kind, ProxyRequest},
    pki::Authority,
    tls_relay::TlsRelay,
};
use tokio::process::Command;

use crate::{process::Fanfare, roles};

#[tokio::test]
async fn a_plugin_that_hangs_holds_up_no_role_and_no_signal() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let plugin =
        json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sleep", "args": ["1000"]}});
    let kubeconfig = roles::kubeconfig(folder.path(), &plugin);
    let to = format!("{}/out.yaml", folder.path().display());
    for (purpose, arguments) in roles::with_kubernetes(&kubeconfig, &to) {
        let fanfare = Fanfare::start(&arguments);
        fanfare.listening(purpose).await;
        fanfare
            .stderr
            .wait("the plugin to be told of", |log| {
                log.contains("asking the credential plugin") && log.contains("sleep")
            })
            .await;
        fanfare.signal(Signal::TERM);
        let finished = fanfare.finish().await;
        assert_eq!(finished.code, Some(0), "{purpose}: {}", finished.stderr);
    }
}

#[tokio::test]
async fn a_kubeconfig_that_cannot_be_used_ends_the_start_with_the_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("kubeconfig");
    for (cluster, user, why) in [
        (json!({"server": "https://127.0.0.1:1"}), json!({"token": "s3cret\nline"}), "token: there is a line end"),
        (json!({"server": "127.0.0.1:6443"}), json!({}), "write https://127.0.0.1:6443"),
        (json!({"server": "https://h", "proxy-url": "ftp://u:s3cret@p"}), json!({}), "the proxy that proxy-url names"),
    ] {
        let file = json!({"clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"});
        std::fs::write(&path, file.to_string()).expect("it can be written");
        let kubeconfig = path.display().to_string();
        let finished = Fanfare::start(["elect", "-election=e", "-kubeconfig", &kubeconfig]).finish().await;
        let log = finished.stderr;
        assert!(finished.code == Some(1) && log.contains(why), "{log}");
        assert!(!log.contains("s3cret") && !log.contains("panicked"), "{log}");
    }
}

/// Runs `elect` against a real API server with these variables, until it leads. Returns its output.
async fn leads(variables: &[(&str, &str)], namespace: &str, kubeconfig: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    let arguments = ["elect", "-election=e", "-ttl=2s", "-label=false", "-id=one", "-log-level=trace"];
    command.args(arguments).args(["-namespace", namespace, "-kubeconfig", kubeconfig]);
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "KUBECONFIG"] {
        command.env_remove(name);
    }
    let fanfare = Fanfare::spawn({
        command.envs(variables.iter().copied());
        command
    });
    fanfare.stderr.wait("it to lead", |log| log.contains("became leader")).await;
    fanfare.signal(Signal::TERM);
    let finished = fanfare.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    finished.stdout + &finished.stderr
}

#[tokio::test]
async fn a_real_api_server_is_reached_through_proxies_and_around_them() {
    let cluster = cluster::shared().await;
    let to = ([127, 0, 0, 1], cluster.api_port()).into();
    let server = format!("127.0.0.1:{}", cluster.api_port());
    let kubeconfig = cluster.kubeconfig_path().display().to_string();
    for (kind, scheme, credentials) in
        [(Kind::Http, "http", "Basic dXNlcjpzM2NyZXQ="), (Kind::Socks5, "socks5", "user:s3cret")]
    {
        let namespace = cluster.namespace("proxied").await;
        let proxy = ForwardProxy::start(kind, to).await;
        let url = format!("{scheme}://user:s3cret@{}", proxy.address);
        let output = leads(&[("HTTPS_PROXY", &url)], &namespace, &kubeconfig).await;
        let asked = ProxyRequest { target: server.clone(), credentials: Some(credentials.to_owned()) };
        assert!(!proxy.asked().is_empty() && proxy.asked().iter().all(|one| *one == asked), "{:?}", proxy.asked());
        assert!(!output.contains("s3cret"), "{output}");
    }
    // A proxy with TLS, whose certificate the system trusts.
    let (namespace, proxy) = (cluster.namespace("proxied").await, ForwardProxy::start(Kind::Http, to).await);
    let authority = Authority::new("trusted by the system");
    let front = authority.issue(&["127.0.0.1"]).server(&[]);
    let front = TlsRelay::in_front("127.0.0.1:0", front, proxy.address).await;
    let trusted = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(trusted.path(), authority.pem()).expect("it can be written");
    let url = format!("https://user:s3cret@{}", front.address);
    let variables = [("HTTPS_PROXY", &*url), ("SSL_CERT_FILE", &*trusted.path().to_string_lossy())];
    let output = leads(&variables, &namespace, &kubeconfig).await;
    assert!(!proxy.asked().is_empty() && !output.contains("s3cret"), "{output}");

    let namespace = cluster.namespace("proxied").await;
    let dead = "http://user:s3cret@127.0.0.1:1";
    let output = leads(&[("HTTPS_PROXY", dead), ("NO_PROXY", "127.0.0.0/8")], &namespace, &kubeconfig).await;
    assert!(!output.contains("s3cret"), "{output}");
}
