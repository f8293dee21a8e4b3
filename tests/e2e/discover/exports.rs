//! The old tool's environment, several exports with shared watches, served exports, writing once, and secrets.

use kubekit::{
    cluster,
    fault_proxy::{FaultProxy, Verb},
};
use rustix::process::Signal;
use serde_json::Value;
use testkit::{
    client::{self, RawClient},
    minio::{self, Minio},
};
use tokio::process::Command;

use super::bed::{Store, account, put, text};
use crate::process::Fanfare;

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments).env_remove("KUBECONFIG");
    command
}

#[tokio::test]
async fn the_environment_of_the_tool_it_replaces_is_enough() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    put(&cluster, ns, "web", 2).await;
    let store = Store::new(minio::shared().await);
    let mut command = command(&["discover", "-m", "127.0.0.1:0", "-n", ns]);
    command.envs([
        ("KUBECONFIG", text(account.kubeconfig_path())),
        ("MODE", "watch"),
        ("DISCOVERY", "endpoints"),
        ("LABEL_FILTER", "k8s-service-discovery=yes"),
        ("OUTPUT_FORMATS", "traefik_yaml,default_yaml"),
        ("MINIO_ENDPOINT", &store.address.to_string()),
        ("MINIO_ACCESS_KEY_ID", Minio::KEYS.0),
        ("MINIO_SECRET_ACCESS_KEY", Minio::KEYS.1),
        ("MINIO_SSL_ENABLED", "false"),
        ("MINIO_BUCKET", &store.bucket),
        ("MINIO_PATH_KEY", "/clusters/edge"),
    ]);
    let mut fanfare = Fanfare::spawn(command);
    fanfare.wait_listening().await;
    store.until("clusters/edge.traefik.yaml", 2).await;
    store.until("clusters/edge.default.yaml", 2).await;
    put(&cluster, ns, "web", 3).await;
    store.until("clusters/edge.traefik.yaml", 3).await;
    store.until("clusters/edge.default.yaml", 3).await;
    fanfare.wait_ready().await;

    // The secret is not shown anywhere.
    let shown = client::get(fanfare.admin(), "/-/config").await.text();
    assert!(shown.contains("clusters/edge.{format}") && !shown.contains(Minio::KEYS.1), "{shown}");
    for series in [
        "fanfare_export_backends{export=\"discover-traefik\"} 1",
        "fanfare_export_endpoints{export=\"discover-default\"} 3",
        "result=\"written\"",
        "fanfare_export_in_sync{",
    ] {
        let metrics = async || client::get(fanfare.admin(), "/metrics").await.text();
        testkit::eventually!(series, metrics().await, |metrics| metrics.contains(series));
    }
    fanfare.signal(Signal::TERM);
    let ended = fanfare.finish().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains(Minio::KEYS.1));
}

#[tokio::test]
async fn several_exports_share_their_watches_and_are_served() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    put(&cluster, ns, "web", 2).await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let proxy = FaultProxy::start(&cluster).await;
    let kubeconfig = proxy.kubeconfig(account.kubeconfig_path());
    let file = directory.path().join("fanfare.yaml");
    let select = format!("{{labels: k8s-service-discovery=yes, namespaces: {ns}}}");
    let yaml = format!(
        "
admin: {{listen: '127.0.0.1:0'}}
kubernetes: {{kubeconfig: {}}}
discover:
  - {{name: edge, select: {select}, format: traefik, to: [{}/edge.yml, 'serve:/traefik'], listen: '127.0.0.1:0'}}
  - {{name: targets, select: {select}, format: prometheus, to: 'serve:/targets', listen: '127.0.0.1:0'}}
",
        kubeconfig.path().display(),
        directory.path().display(),
    );
    std::fs::write(&file, yaml).expect("it can be written");
    let mut fanfare = Fanfare::start(["run", "--config", text(&file)]);
    let address = fanfare.listening("for discover").await;
    fanfare.wait_listening().await;
    fanfare.wait_ready().await;
    let written = std::fs::read_to_string(directory.path().join("edge.yml")).expect("it is there");
    assert_eq!(client::get(address, "/traefik").await.text(), written);
    let targets: Value = serde_json::from_str(&client::get(address, "/targets").await.text()).expect("it is JSON");
    assert_eq!(targets.as_array().map(Vec::len), Some(2), "{targets}");

    let answer = client::get(address, "/targets").await;
    let tag = answer.header("etag").expect("it has one").to_owned();
    let mut asker = RawClient::connect(address).await;
    asker.send(format!("GET /targets HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n")).await;
    assert_eq!(asker.read_response("GET").await.complete().status, 304);
    asker.send("HEAD /targets HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(asker.read_response("HEAD").await.complete().header("etag"), Some(&*tag));
    // A change is answered at once.
    asker.send(format!("GET /targets?wait=1m HTTP/1.1\r\nHost: x\r\nIf-None-Match: {tag}\r\n\r\n")).await;
    put(&cluster, ns, "web", 3).await;
    let news = asker.read_response("GET").await.complete();
    assert_eq!((news.status, news.text().matches("192.0.2.").count()), (200, 3));

    let watches = |resource: &'static str| proxy.count(move |call| call.is(Verb::Watch, resource));
    assert_eq!(watches("services"), 1, "{:?}", proxy.calls());
    assert!(watches("endpointslices") <= 2, "slices of services, and slices without one");
    fanfare.signal(Signal::TERM);
    assert_eq!(fanfare.finish().await.code, Some(0));
}

#[tokio::test]
async fn once_writes_and_tells_by_its_status() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    put(&cluster, ns, "web", 2).await;
    let directory = tempfile::tempdir().expect("a temporary directory");
    let place = format!("{}/", directory.path().display());
    let arguments = |place: &str| {
        let select = ["discover", "--once", "--select=k8s-service-discovery=yes", "-n", ns, "-k"];
        let mut arguments: Vec<String> = select.map(String::from).into();
        arguments.extend([
            text(account.kubeconfig_path()).into(),
            "--to".into(),
            place.into(),
            "-f=hosts,nginx".into(),
        ]);
        arguments
    };
    let done = crate::process::run(arguments(&place)).await;
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(!done.stderr.contains("admin API"), "{}", done.stderr);
    for file in ["discover.hosts", "discover.nginx.conf"] {
        let text = std::fs::read_to_string(directory.path().join(file)).expect(file);
        assert_eq!(text.matches("192.0.2.").count(), 2, "{text}");
    }

    // The file has more endpoints than the cluster, without deletion events.
    let old: String = (1..=50).map(|n| format!("192.0.2.{n} old\n")).collect();
    let guarded = directory.path().join("guarded");
    std::fs::write(&guarded, &old).expect("it can be written");
    let mut arguments = arguments(text(&guarded));
    arguments.pop();
    arguments.push("-f=hosts".into());
    let refused = crate::process::run(&arguments).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("48 of 50 endpoints") && refused.stderr.contains("--max-shrink"),
        "{}",
        refused.stderr
    );
    assert_eq!(std::fs::read_to_string(&guarded).expect("it is there"), old);
    arguments.push("--max-shrink=100%".into());
    assert_eq!(crate::process::run(&arguments).await.code, Some(0));
}

#[tokio::test]
async fn a_config_map_is_written_with_the_rights_for_it_and_no_other_key_is_touched() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    put(&cluster, ns, "web", 2).await;
    let theirs = format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: backends, namespace: {ns}}}, data: {{theirs: stays}}}}"
    );
    cluster.apply_yaml(&theirs).await.expect("a valid object");
    let place = format!("--to=configmap://{ns}/backends/edge.yml");
    let arguments = [
        "discover",
        "--once",
        "--select=k8s-service-discovery=yes",
        "-n",
        ns,
        &place,
        "-k",
        text(account.kubeconfig_path()),
    ];
    // The shipped Role has no right on ConfigMaps.
    let refused = crate::process::run(arguments).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("configmaps") && refused.stderr.contains("is forbidden"), "{}", refused.stderr);
    let rule = "{apiGroups: [''], resources: [configmaps], verbs: [get, update]}";
    let role = format!(
        "{{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {{name: maps, namespace: {ns}}}, rules: [{rule}]}}
---
{{apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {{name: maps, namespace: {ns}}},
 roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: maps}},
 subjects: [{{kind: ServiceAccount, name: {}, namespace: {ns}}}]}}",
        account.name()
    );
    cluster.apply_yaml(&role).await.expect("a valid role");
    // The role takes effect a moment after it was made.
    testkit::eventually!("the role to count", crate::process::run(arguments).await.code, |code| *code == Some(0));
    let path = format!("/api/v1/namespaces/{ns}/configmaps/backends");
    let map: Value = cluster.read(&path).await.expect("it is there");
    assert_eq!(map["data"]["theirs"], "stays");
    assert_eq!(map["data"]["edge.yml"].as_str().map(|text| text.matches("192.0.2.").count()), Some(2), "{map}");
}

#[tokio::test]
async fn invalid_settings_are_reported_before_the_start() {
    let told = crate::process::run(["discover", "--select=a=b", "--to=serve:/x"]).await;
    assert_eq!(told.code, Some(64));
    assert!(told.stderr.contains("--listen"), "{}", told.stderr);
    let told = crate::process::run(["bridge", "--from=s3://bucket/set/", "--to=/tmp/one"]).await;
    assert_eq!(told.code, Some(64));
    assert!(told.stderr.contains("--to"), "{}", told.stderr);
}

#[tokio::test]
async fn labels_that_nothing_has_are_told() {
    let cluster = cluster::shared().await;
    let ns = &cluster.namespace("nothing").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let to = folder.path().join("edge.yml").display().to_string();
    let kubeconfig = cluster.kubeconfig_path().display().to_string();
    let mut flags = vec!["discover", "--select", "edge=yse", "--namespaces", ns, "--to", &to];
    flags.extend(["-k", &kubeconfig, "-m", "127.0.0.1:0"]);
    let fanfare = Fanfare::serve(flags).await;
    let told = format!("no Service has the labels edge=yse in {ns}");
    fanfare
        .stderr
        .wait("the warning", |log| log.lines().any(|line| line.contains(" WARN ") && line.contains(&told)))
        .await;
}
