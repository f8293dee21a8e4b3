//! Protocols of Services' endpoints by the `appProtocol` of a port, and the names in their certificates.

use std::net::SocketAddr;

use kubekit::cluster;
use serde_json::json;
use testkit::{
    client, eventually, netns,
    origin::{Origin, Reply},
    pki::{Authority, SecretDir},
    tls_relay::TlsRelay,
};
use tokio::process::Command;

use super::bed::{Bed, NS};
use crate::process::Fanfare;

/// Both ports have an `appProtocol`; that of the clear-text one is added later.
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

/// The version and the scheme of the last request at the pod.
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
            // The system's authorities, because none are configured.
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
        // TLS to a clear-text endpoint: requests are not sent in clear text instead.
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

/// A Service whose pods speak TLS.
fn service(name: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {NS}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: secure, port: 443, targetPort: 8443, appProtocol: https}}]
---
"
    )
}

#[test]
fn pods_of_several_services_are_known_by_names_made_of_their_own_or_by_that_of_their_service() {
    cluster::inside(testkit::test_name!(), async || {
        let bed = Bed::start_with_controllers().await;
        let authority = Authority::new("the cluster");
        let ca = SecretDir::new(&[("ca.crt", &authority.pem())]);
        let services = ["shop-cache", "shop-images"];
        bed.apply(&services.map(service).concat()).await;
        let pods = [("shop-cache-0", 0), ("shop-cache-1", 0), ("shop-images-0", 1)];
        let names = pods.map(|(pod, n)| format!("{pod}.{}.{NS}.svc.cluster.local", services[n]));
        let (mut origins, mut relays) = (Vec::new(), Vec::new());
        for (n, (pod, service)) in pods.into_iter().enumerate() {
            let ip = netns::ipv4(u8::try_from(n).expect("there are few") + 1);
            let origin = Origin::start(Reply::ok(pod));
            let shown = authority.issue(&[&names[n]]).server(&["http/1.1"]);
            relays.push(TlsRelay::in_front(&format!("{ip}:8443"), shown, origin.address()).await);
            origins.push(origin);
            bed.cluster.pod(NS, pod, services[service], &[ip], true).await;
        }
        let ca = format!("--upstream-ca={}", ca.path("ca.crt").display());
        let start = async |flags: &[&str]| {
            let fanfare = bed.fanfare(&[&["-s", "default/shop-*", "-p", "secure", &ca], flags].concat()).await;
            let three = pods.iter().zip(1..).map(|(_, n)| SocketAddr::from((netns::ipv4(n), 8443))).collect();
            bed.until_seen(&fanfare, &three).await;
            fanfare
        };
        // Outcomes and errors, in the order of the pods.
        let told = async |fanfare: &Fanfare| {
            let fields = [("Accept", "application/vnd.broadcast+json")];
            let answer = client::request(fanfare.address(), "PURGE", "/x", &fields, b"").await.complete();
            let report: serde_json::Value = serde_json::from_slice(&answer.body).expect("a report");
            pods.map(|(pod, _)| {
                let results = report["results"].as_array().expect("results");
                let result = results.iter().find(|result| result["pod"] == pod).unwrap_or_else(|| panic!("{report}"));
                let text = |key: &str| result[key].as_str().unwrap_or_default().to_owned();
                (text("outcome"), text("error"))
            })
        };
        let ok = pods.map(|_| ("ok".to_owned(), String::new()));
        let template = "--upstream-server-name={pod}.{service}.{namespace}.svc.cluster.local";
        assert_eq!(told(&start(&[template]).await).await, ok);

        // Each presents another one's certificate.
        for (n, relay) in relays.iter().enumerate() {
            relay.show(authority.issue(&[&names[(n + 1) % 3]]).server(&["http/1.1"]));
        }
        for (n, (outcome, error)) in told(&start(&[template]).await).await.into_iter().enumerate() {
            let fault = format!("is for {}, not for {}", names[(n + 1) % 3], names[n]);
            assert!(outcome == "connect" && error.contains(&fault), "{outcome}: {error}");
        }

        // By the names of their Services, the default.
        for (relay, (_, service)) in relays.iter().zip(pods) {
            relay.show(authority.issue(&[&format!("{}.{NS}.svc", services[service])]).server(&["http/1.1"]));
        }
        assert_eq!(told(&start(&[]).await).await, ok);
        for (n, (outcome, error)) in told(&start(&[template]).await).await.into_iter().enumerate() {
            assert!(outcome == "connect" && error.contains(&names[n]), "{outcome}: {error}");
        }
        for origin in &origins {
            assert_eq!(origin.requests().len(), 2, "what is not known by its name gets nothing");
        }
    });
}
