//! Regression tests of the defects of the tool that `fanfare discover` replaces, with their numbers in `docs/migrating.md`. 11 and
//! 12 concern stores alone, and are in `export/tests/it/store.rs`.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::Read as _,
    path::Path,
    time::Duration,
};

use kubekit::{
    cluster::{self, Account, Shared},
    fault_proxy::{Fault, FaultProxy, Verb},
};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::{
    client,
    minio::{self, Minio},
};
use tokio::process::Command;

use super::bed::{Store, account, put, text};
use crate::{
    deploy::shipped::{Shipped, yaml},
    process::{Fanfare, run},
};

/// A namespace with the shipped Role, and a folder to write to.
struct Bed {
    cluster: Shared,
    account: Account,
    folder: TempDir,
}

impl Bed {
    async fn new() -> Self {
        let cluster = cluster::shared().await;
        let account = account(&cluster).await;
        Self { cluster, account, folder: tempfile::tempdir().expect("a temporary folder") }
    }

    fn ns(&self) -> &str {
        self.account.namespace()
    }

    fn file(&self) -> String {
        self.folder.path().join("edge").display().to_string()
    }

    /// A Service with these ports, and a slice for each family of addresses with these ports.
    async fn service(&self, name: &str, ports: Value, slices: Value) {
        let (ns, labels) = (self.ns(), json!({"k8s-service-discovery": "yes"}));
        let mut objects = vec![json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": ns, "labels": labels},
            "spec": {"clusterIP": "None", "ports": ports},
        })];
        for (n, slice) in slices.as_array().expect("a list").iter().enumerate() {
            let addresses = slice["addresses"].as_array().expect("a list");
            let endpoints: Vec<Value> = addresses.iter().map(|address| json!({"addresses": [address]})).collect();
            let v6 = addresses.iter().any(|address| address.to_string().contains(':'));
            let labels = json!({"kubernetes.io/service-name": name});
            objects.push(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": if v6 { "IPv6" } else { "IPv4" },
                "metadata": {"name": format!("{name}-{n}"), "namespace": ns, "labels": labels},
                "endpoints": endpoints, "ports": slice["ports"],
            }));
        }
        self.cluster.apply_yaml(&yaml(&objects)).await.unwrap_or_else(|e| panic!("valid objects: {e}"));
    }

    fn arguments(&self, kubeconfig: &Path, flags: &[&str]) -> Vec<String> {
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        let (ns, to) = (format!("--namespaces={}", self.ns()), format!("--to={}", self.file()));
        let fixed = ["discover", "--select=k8s-service-discovery=yes", "-m=127.0.0.1:0", &kubeconfig, &ns, &to];
        fixed.iter().chain(flags).map(|text| (*text).to_owned()).collect()
    }

    /// The result of writing once.
    async fn written(&self, flags: &[&str]) -> String {
        let flags = [flags, &["--once"]].concat();
        let done = run(self.arguments(self.account.kubeconfig_path(), &flags)).await;
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        self.text()
    }

    /// The file parsed as Traefik's sections; strict, so that duplicate keys are errors.
    async fn traefik(&self) -> Value {
        serde_yaml::from_str(&self.written(&[]).await).expect("it is YAML")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }
}

/// The URLs of a backend.
fn urls(traefik: &Value, backend: &str) -> Vec<String> {
    let servers = traefik["http"]["services"][backend]["loadBalancer"]["servers"].as_array();
    let servers = servers.unwrap_or_else(|| panic!("there is no {backend} in {traefik}"));
    servers.iter().map(|server| server["url"].as_str().expect("a URL").to_owned()).collect()
}

/// The number of writes with this result.
async fn puts(fanfare: &Fanfare, result: &str) -> u64 {
    let metrics = client::get(fanfare.admin(), "/metrics").await.text();
    let result = format!("result=\"{result}\"");
    let ours = metrics.lines().filter(|line| line.starts_with("fanfare_export_puts_total") && line.contains(&result));
    ours.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// 1: v1 Endpoints were read, which are truncated at 1,000 addresses.
#[tokio::test]
async fn d1_slices_are_read_and_more_than_a_thousand_endpoints_are_written() {
    let bed = Bed::new().await;
    let slices: Vec<Value> = (0..3)
        .map(|part| {
            let addresses: Vec<String> = (0..500).map(|n| format!("10.{part}.{}.{}", n / 250, n % 250)).collect();
            json!({"addresses": addresses, "ports": [{"name": "http", "port": 8080}]})
        })
        .collect();
    bed.service("web", json!([{"name": "http", "port": 80}]), slices.into()).await;
    let proxy = FaultProxy::start(&bed.cluster).await;
    let kubeconfig = proxy.kubeconfig(bed.account.kubeconfig_path());
    let done = run(bed.arguments(kubeconfig.path(), &["--once"])).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert_eq!(bed.text().matches("- url: ").count(), 1500);
    assert_eq!(proxy.count(|call| call.resource == "endpoints"), 0, "{:?}", proxy.calls());
}

/// 2: two Services of one name in different namespaces overwrote each other's backend. Each namespace has a Role only.
#[tokio::test]
async fn d2_namesakes_of_two_namespaces_are_both_there() {
    let bed = Bed::new().await;
    let (ns, other) = (bed.ns(), bed.cluster.namespace("discover").await);
    let mut role = Shipped("discover").objects("rbac.yaml", &other);
    for subject in role.iter_mut().flat_map(|object| object.get_mut("subjects").and_then(Value::as_array_mut)).flatten()
    {
        subject["namespace"] = ns.into();
    }
    bed.cluster.apply_yaml(&yaml(&role)).await.expect("valid objects");
    put(&bed.cluster, ns, "web", 2).await;
    put(&bed.cluster, &other, "web", 3).await;
    let both = format!("--namespaces={other}");
    let traefik: Value = serde_yaml::from_str(&bed.written(&[&both]).await).expect("it is YAML");
    let names: BTreeMap<_, _> = traefik["http"]["services"].as_object().expect("a map").iter().collect();
    let later =
        [format!("{ns}-web-8080"), format!("{other}-web-8080")].into_iter().find(|name| names.contains_key(name));
    let later = later.unwrap_or_else(|| panic!("one has its namespace in front: {names:?}"));
    let mut counts = [urls(&traefik, "web-8080").len(), urls(&traefik, &later).len()];
    counts.sort_unstable();
    assert_eq!((names.len(), counts), (2, [2, 3]));
}

/// 3: a port without `appProtocol` became `TCP://ip:port`, and a UDP port the same.
#[tokio::test]
async fn d3_protocols_are_those_that_traefik_takes() {
    let bed = Bed::new().await;
    let ports = json!([
        {"name": "web", "port": 80}, {"name": "admin", "port": 443, "appProtocol": "https"},
        {"name": "postgres", "port": 5432}, {"name": "dns", "port": 53, "protocol": "UDP"},
    ]);
    let slice = json!({"addresses": ["192.0.2.1"], "ports": [
        {"name": "web", "port": 8080}, {"name": "admin", "port": 8443, "appProtocol": "https"},
        {"name": "postgres", "port": 5432}, {"name": "dns", "port": 53, "protocol": "UDP"},
    ]});
    bed.service("all", ports, json!([slice])).await;
    let traefik = bed.traefik().await;
    assert_eq!(urls(&traefik, "all-8080"), ["http://192.0.2.1:8080"]);
    assert_eq!(urls(&traefik, "all-8443"), ["https://192.0.2.1:8443"]);
    let address =
        |section: &str, name: &str| traefik[section]["services"][name]["loadBalancer"]["servers"][0]["address"].clone();
    assert_eq!(
        (address("tcp", "all-5432"), address("udp", "all-53")),
        ("192.0.2.1:5432".into(), "192.0.2.1:53".into())
    );
    assert!(!bed.text().contains("TCP://"), "{}", bed.text());
    // Its own format is unchanged.
    let default: Value = serde_yaml::from_str(&bed.written(&["-f=default"]).await).expect("it is YAML");
    let backends = default["backends"].as_array().expect("a list").iter();
    let told: BTreeMap<_, _> =
        backends.map(|one| (one["name"].as_str(), one["targets"][0]["protocol"].as_str())).collect();
    assert_eq!((told[&Some("all-8080")], told[&Some("all-8443")]), (Some("TCP"), Some("https")));
}

/// 4: each subset repeated the same YAML key.
#[tokio::test]
async fn d4_several_slices_are_one_backend() {
    let bed = Bed::new().await;
    let slice = |n: u8| json!({"addresses": [format!("192.0.2.{n}")], "ports": [{"name": "http", "port": 8080}]});
    bed.service("web", json!([{"name": "http", "port": 80}]), json!([slice(1), slice(2), slice(3)])).await;
    let traefik = bed.traefik().await;
    let wanted = ["http://192.0.2.1:8080", "http://192.0.2.2:8080", "http://192.0.2.3:8080"];
    assert_eq!(urls(&traefik, "web-8080"), wanted);
    assert_eq!(bed.text().matches("web-8080").count(), 1, "{}", bed.text());
}

/// 5: without a backend the file had an empty `services:`, and without an endpoint an empty `servers:`.
#[tokio::test]
async fn d5_nothing_is_said_in_a_way_that_traefik_takes() {
    let bed = Bed::new().await;
    assert_eq!(bed.written(&[]).await, "{}\n");
    put(&bed.cluster, bed.ns(), "web", 1).await;
    let slice = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices/web-1", bed.ns());
    let down = json!({"endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": false}}]});
    bed.cluster.merge(&slice, down).await;
    assert_eq!(urls(&bed.traefik().await, "web-8080"), [""; 0]);
}

/// 6: addresses of IPv6 had no brackets.
#[tokio::test]
async fn d6_ipv6_is_in_brackets() {
    let bed = Bed::new().await;
    let ports = json!([{"name": "http", "port": 8080}]);
    let slices = json!([
        {"addresses": ["192.0.2.1"], "ports": ports}, {"addresses": ["2001:db8::1"], "ports": ports},
    ]);
    bed.service("web", json!([{"name": "http", "port": 80}]), slices).await;
    assert_eq!(urls(&bed.traefik().await, "web-8080"), ["http://192.0.2.1:8080", "http://[2001:db8::1]:8080"]);
}

/// 7: the object was written every few seconds, even if unchanged.
#[tokio::test]
async fn d7_unchanged_files_are_not_written_again() {
    let bed = Bed::new().await;
    put(&bed.cluster, bed.ns(), "web", 2).await;
    let store = Store::new(minio::shared().await);
    let place = format!("s3://{}/edge.yml", store.bucket);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(bed.arguments(bed.account.kubeconfig_path(), &["--to", &place, "--s3-create-bucket"]));
    command.envs(store.environment()).envs([("MODE", "loop"), ("SLEEP", "1")]);
    let mut fanfare = Fanfare::spawn(command);
    fanfare.wait_listening().await;
    testkit::eventually!("both places to be written", puts(&fanfare, "written").await, |written| *written >= 2);
    // Two checks of each of the two places.
    testkit::eventually!("some looks", puts(&fanfare, "unchanged").await, |looks| *looks >= 4);
    assert_eq!(puts(&fanfare, "written").await, 2);
    // The loop still repairs changed files.
    store.write("edge.yml", "somebody was here").await;
    store.until("edge.yml", 2).await;
}

/// 8: every event listed everything again, and the process ended when the watch was closed.
#[tokio::test]
async fn d8_an_event_costs_no_list_and_the_end_of_a_watch_ends_nothing() {
    let bed = Bed::new().await;
    put(&bed.cluster, bed.ns(), "web", 1).await;
    let proxy = FaultProxy::start(&bed.cluster).await;
    let kubeconfig = proxy.kubeconfig(bed.account.kubeconfig_path());
    let fanfare = Fanfare::serve(bed.arguments(kubeconfig.path(), &["--debounce=10ms"])).await;
    let servers = async |count: usize| {
        testkit::eventually!("that many servers", bed.text().matches("- url: ").count(), |now| *now == count);
    };
    servers(1).await;
    let lists = || proxy.count(|call| call.verb == Verb::List);
    let before = lists();
    for count in 2..=5 {
        put(&bed.cluster, bed.ns(), "web", count).await;
        servers(usize::from(count)).await;
    }
    assert_eq!(lists(), before, "{:?}", proxy.calls());
    assert!(proxy.interrupt(|call| call.verb == Verb::Watch, Fault::CutBody(Duration::ZERO)) > 0);
    put(&bed.cluster, bed.ns(), "web", 6).await;
    servers(6).await;
    fanfare.wait_ready().await;
}

/// 9: a failed put was not reported anywhere.
#[tokio::test]
async fn d9_a_put_that_fails_is_told_and_tried_again() {
    let bed = Bed::new().await;
    put(&bed.cluster, bed.ns(), "web", 2).await;
    let store = Store::new(minio::shared().await);
    store.make().await;
    let place = format!("s3://{}/edge.yml", store.bucket);
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(bed.arguments(bed.account.kubeconfig_path(), &["--to", &place]));
    command.envs(store.environment()).env("AWS_SECRET_ACCESS_KEY", "wrong-secret");
    let mut fanfare = Fanfare::spawn(command);
    fanfare.wait_listening().await;
    testkit::eventually!("a second try", puts(&fanfare, "denied").await, |tries| *tries >= 2);
    let why = client::get(fanfare.admin(), "/-/ready").await.expect_status(503).text();
    assert!(why.contains(&place), "{why}");
    let log = fanfare.stderr.wait("the place", |log| log.contains(&place)).await;
    assert!(!log.contains("wrong-secret") && !log.contains(Minio::KEYS.1), "{log}");
    let metrics = client::get(fanfare.admin(), "/metrics").await.text();
    let series = format!("fanfare_export_in_sync{{export=\"discover\",sink=\"{place}\"}} 0");
    assert!(metrics.contains(&series), "{metrics}");
}

/// 10: an empty or shrunken list was written like any other.
#[tokio::test]
async fn d10_losses_without_a_deletion_event_are_held() {
    let bed = Bed::new().await;
    put(&bed.cluster, bed.ns(), "web", 20).await;
    let before = bed.written(&[]).await;
    let empty = bed.cluster.namespace("empty").await;
    // A restart in the wrong cluster.
    let mut arguments = bed.arguments(&bed.cluster.kubeconfig_path(), &[]);
    arguments.retain(|argument| !argument.starts_with("--namespaces"));
    arguments.extend(["-n".into(), empty]);
    let fanfare = Fanfare::serve(arguments).await;
    let why = async || client::get(fanfare.admin(), "/-/ready").await.text();
    testkit::eventually!("the guard to tell", why().await, |why| why.contains("20 of 20 endpoints are gone"));
    assert_eq!(bed.text(), before);
}

/// 13: `mc cp` wrote into Traefik's directory in place.
#[tokio::test]
async fn d13_a_bridge_puts_a_new_file_in_place_of_the_old_one() {
    let store = Store::new(minio::shared().await);
    store.write("edge.yml", "the old one").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (from, to) = (format!("s3://{}/edge.yml", store.bucket), folder.path().join("edge.yml"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["bridge", "--from", &from, "--to", text(&to), "--interval=20ms", "-m=127.0.0.1:0"]);
    let mut bridge = Fanfare::spawn({
        command.envs(store.environment());
        command
    });
    bridge.wait_listening().await;
    bridge.wait_ready().await;
    let mut held = File::open(&to).expect("it is there");
    // It is checked repeatedly, and left unchanged.
    let looks = async || {
        let metrics = client::get(bridge.admin(), "/metrics").await.text();
        let line =
            metrics.lines().find(|line| line.starts_with("fanfare_bridge_pulls_total") && line.contains("unchanged"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or_default()
    };
    testkit::eventually!("some looks", looks().await, |looks| *looks >= 3);
    let number = |metadata: fs::Metadata| std::os::unix::fs::MetadataExt::ino(&metadata);
    let before = number(held.metadata().expect("it is open"));
    assert_eq!(number(fs::metadata(&to).expect("it is there")), before);
    store.write("edge.yml", "a new one that is longer").await;
    let new =
        testkit::eventually!("the new one", fs::read_to_string(&to).unwrap_or_default(), |text| text != "the old one");
    assert_eq!(new, "a new one that is longer");
    let mut old = String::new();
    held.read_to_string(&mut old).expect("it is open");
    assert_eq!(old, "the old one", "who had begun to read it reads all of it");
    bridge.signal(Signal::TERM);
    assert_eq!(bridge.finish().await.code, Some(0));
}
