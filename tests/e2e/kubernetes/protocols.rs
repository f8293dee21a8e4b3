//! The `appProtocol` of a Service's port says what is spoken to its endpoints, and a change of it counts at once.

use std::net::SocketAddr;

use kubekit::cluster;
use serde_json::json;
use testkit::{
    client, eventually, netns,
    origin::{Origin, Reply},
    pki::{Authority, SecretDir},
};
use tokio::process::Command;

use super::bed::{Bed, NS};
use crate::process::Fanfare;

/// Both ports say what they speak; the clear one says it later.
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: cache, namespace: default}
spec:
  selector: {app: cache}
  ports:
    - {name: plain, port: 80, targetPort: 8080}
    - {name: secure, port: 443, targetPort: 8443, appProtocol: https}
";

/// The pod's process: it speaks both versions, in clear and by TLS, and passes on what it gets with a `Via` that says in which
/// version it came, and whether by TLS.
async fn pod(secret: &SecretDir, behind: &Origin) -> Fanfare {
    let config = json!({
        "admin": {"listen": "127.0.0.1:0"},
        "threads": 1,
        "broadcast": [
            {
                "listen": SocketAddr::from((netns::ipv4(1), 8080)).to_string(),
                "via_name": "pod",
                "routes": [{"to": {"endpoints": [behind.address().to_string()]}}],
            },
            {
                "listen": SocketAddr::from((netns::ipv4(1), 8443)).to_string(),
                "via_name": "pod",
                "tls": {"certificates": [{"cert": secret.path("tls.crt"), "key": secret.path("tls.key")}]},
                "routes": [{"name": "secure", "to": {"endpoints": [behind.address().to_string()]}}],
            },
        ],
    });
    let file = secret.path("pod.yaml");
    std::fs::write(&file, config.to_string()).expect("it can be written");
    let fanfare = Fanfare::serve(["run", "--config", file.to_str().expect("a path of ASCII")]).await;
    fanfare.wait_ready().await;
    fanfare
}

/// How the last request came to the pod: version and scheme.
fn came(origin: &Origin) -> (String, String) {
    let seen = origin.requests().pop().expect("a request");
    let via = seen.headers.all("via").join(", ");
    let (_, last) = via.rsplit_once(", ").expect("both have passed it on");
    let scheme = seen.headers.get("x-forwarded-proto").unwrap_or_default();
    (last.split(' ').next().unwrap_or_default().to_owned(), scheme.to_owned())
}

#[test]
fn the_app_protocol_of_a_port_says_what_its_pods_are_sent() {
    cluster::inside(testkit::test_name!(), async || {
        let bed = Bed::start_with_controllers().await;
        bed.apply(SERVICE).await;
        let authority = Authority::new("the cluster");
        let secret = SecretDir::of(&authority.issue(&["cache.default.svc"]), &authority);
        let behind = Origin::start(Reply::ok("fine"));
        let _pod = pod(&secret, &behind).await;
        bed.cluster.pod(NS, "cache-0", "cache", &[netns::ipv4(1)], true).await;

        let start = async |port: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
            command.args(["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--threads", "1"]);
            command.args(["-s", "default/cache", "-p", port, "--via-name", "front", "--kubeconfig"]);
            command.arg(bed.account.kubeconfig_path());
            // What the system trusts, for want of anything configured.
            command.env("SSL_CERT_FILE", secret.path("ca.crt")).env_remove("SSL_CERT_DIR");
            let mut fanfare = Fanfare::spawn(command);
            fanfare.wait_listening().await;
            fanfare.wait_ready().await;
            fanfare
        };
        let ask = async |fanfare: &Fanfare| {
            let answer = client::request(fanfare.address(), "POST", "/x", &[], b"body").await.complete();
            (answer.status, behind.requests().last().map(|_| came(&behind)))
        };
        let came_as = |version: &str, scheme: &str| (200, Some((version.to_owned(), scheme.to_owned())));

        let secure = start("secure").await;
        eventually!("the pod by TLS", ask(&secure).await, |asked| *asked == came_as("2.0", "https"));
        let plain = start("plain").await;
        eventually!("the pod in clear", ask(&plain).await, |asked| *asked == came_as("1.1", "http"));
        for (app_protocol, version) in [("kubernetes.io/h2c", "2.0"), ("http", "1.1"), ("grpc", "2.0")] {
            let patch = json!({"spec": {"ports": [
                {"name": "plain", "port": 80, "targetPort": 8080, "appProtocol": app_protocol},
                {"name": "secure", "port": 443, "targetPort": 8443, "appProtocol": "https"},
            ]}});
            bed.cluster.merge("/api/v1/namespaces/default/services/cache", patch).await;
            eventually!(app_protocol, ask(&plain).await, |asked| *asked == came_as(version, "http"));
        }
        for seen in behind.requests() {
            assert_eq!((&*seen.method, &*seen.target, &*seen.text()), ("POST", "/x", "body"));
        }
        // TLS that nobody speaks there: nothing is sent in clear instead.
        let before = behind.requests().len();
        let patch = json!({"spec": {"ports": [
            {"name": "plain", "port": 80, "targetPort": 8080, "appProtocol": "https"},
            {"name": "secure", "port": 443, "targetPort": 8443, "appProtocol": "https"},
        ]}});
        bed.cluster.merge("/api/v1/namespaces/default/services/cache", patch).await;
        let shown = async || client::get(plain.admin(), "/-/endpoints").await.complete().text();
        eventually!("the change", shown().await, |shown| shown.contains("\"said\": \"https\""));
        let before = before.max(behind.requests().len());
        assert_eq!(client::get(plain.address(), "/").await.complete().status, 502);
        assert_eq!(behind.requests().len(), before);
    });
}
