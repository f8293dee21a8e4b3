//! Pipelines from a real API server to real stores: changes arrive, losses without a deletion event are held, and faults are
//! survived.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use controlplane::{
    catalog::{Selection, Selector, follow},
    client::connect,
    kube_cluster::KubeCluster,
    lease::Leadership,
};
use export::{
    backend::Model,
    guard::Limits,
    pipeline::{Export, Pace, Pipeline, Process},
    render::{Format, FormatOptions},
    sink::Target,
};
use kubekit::{
    cluster::{self, Account, Cluster},
    fault_proxy::{Fault as Line, FaultProxy, Verb},
};
use runtime::{drain::Drain, readiness::Readiness};
use tokio::task::JoinHandle;

use crate::{
    bed::{self, Bed, document, writer},
    front::Fault,
};

/// Short intervals, so that tests are fast.
const PACE: Pace = Pace {
    quiet: Duration::from_millis(50),
    at_most: Duration::from_millis(500),
    resync: Duration::from_secs(300),
    timeout: Duration::from_secs(5),
};

/// A running pipeline.
struct Running {
    readiness: Readiness,
    drain: Drain,
    task: JoinHandle<()>,
}

/// An account with the rights of an export in its namespace.
async fn account(cluster: &Cluster) -> Account {
    let namespace = cluster.namespace("pipeline").await;
    let account = cluster.service_account(&namespace, "fanfare").await;
    let role = format!(
        r"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: fanfare, namespace: {namespace}}}
rules:
- {{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}}
- {{apiGroups: [''], resources: [services], verbs: [list, watch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: fanfare, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: fanfare}}
subjects: [{{kind: ServiceAccount, name: fanfare, namespace: {namespace}}}]
"
    );
    cluster.apply_yaml(&role).await.expect("a valid role");
    account
}

/// A Service without a selector, and a slice with `count` endpoints.
async fn put(cluster: &Cluster, namespace: &str, service: &str, endpoints: u8) {
    let addresses: Vec<String> = (1..=endpoints).map(|n| format!("{{addresses: [192.0.2.{n}]}}")).collect();
    let yaml = format!(
        r"
apiVersion: v1
kind: Service
metadata: {{name: {service}, namespace: {namespace}, labels: {{export: 'yes'}}}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: {service}}}}}
addressType: IPv4
endpoints: [{}]
ports: [{{name: http, port: 8080}}]
",
        addresses.join(", ")
    );
    cluster.apply_yaml(&yaml).await.unwrap_or_else(|e| panic!("valid objects: {e}"));
}

async fn delete(cluster: &Cluster, namespace: &str, service: &str) {
    let yaml = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {service}, namespace: {namespace}}}}}\n---\n\
         {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {service}-1, namespace: {namespace}}}}}"
    );
    cluster.delete_yaml(&yaml).await.expect("they are there");
}

fn export(sinks: Vec<Target>) -> Export {
    Export {
        name: "edge".into(),
        model: Model::default(),
        format: Format::parse("traefik-yaml", &FormatOptions::default()).expect("a format"),
        sinks,
        limits: Limits::default(),
        pace: PACE,
        cluster: "test".into(),
    }
}

async fn pipeline(kubeconfig: &Path, namespace: &str, export: Export, bed: &Bed) -> (Pipeline, Readiness) {
    let connection = connect(Some(kubeconfig)).await.expect("a valid kubeconfig");
    let readiness = Readiness::new();
    let selector = Selector::parse("export=yes").expect("a selector");
    let selection = Selection::Labels { selector, namespaces: Some(vec![namespace.into()]) };
    let reader = follow(&KubeCluster::new(connection.client), selection, readiness.register("catalog"));
    let process = Process { leadership: Leadership::alone(), identity: "test".into(), readiness: readiness.clone() };
    let made = Pipeline::new(export, reader, &process, &bed.connect).expect("it can be used");
    (made, readiness)
}

async fn run(kubeconfig: &Path, namespace: &str, export: Export, bed: &Bed) -> Running {
    let (pipeline, readiness) = pipeline(kubeconfig, namespace, export, bed).await;
    let drain = Drain::new();
    let task = tokio::spawn(pipeline.run(drain.watch()));
    Running { readiness, drain, task }
}

impl Running {
    async fn end(self) {
        self.drain.start();
        testkit::eventually::within("the end", self.task).await.expect("it does not panic");
    }
}

/// Waits until the file has this number of servers.
async fn until(bed: &Bed, name: &str, servers: usize) -> String {
    let count = |text: &Option<String>| text.as_ref().map_or(0, |text| text.matches("url: ").count());
    let what = format!("{servers} servers in {name}");
    testkit::eventually!(what, bed.text(name).await, |text| count(text) == servers && text.is_some())
        .expect("it is there")
}

fn why(running: &Running) -> String {
    running.readiness.check().err().unwrap_or_default()
}

#[tokio::test]
async fn changes_arrive_and_nothing_is_written_twice() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    put(&cluster, ns, "cache", 2).await;
    let bed = bed::minio().await;
    // Much longer than the API server takes for one change.
    let pace = Pace { quiet: Duration::from_secs(2), at_most: Duration::from_secs(60), ..PACE };
    let export = Export { pace, ..export(vec![bed.target("edge.yml")]) };
    let running = run(account.kubeconfig_path(), ns, export, &bed).await;
    let text = until(&bed, "edge.yml", 2).await;
    assert!(text.contains("cache-8080") && text.contains("http://192.0.2.1:8080"), "{text}");
    testkit::eventually!("readiness", running.readiness.is_ready(), |ready| *ready);
    let puts = || bed.front.as_ref().expect("it has one").counts().1;
    let before = puts();
    put(&cluster, ns, "cache", 3).await;
    until(&bed, "edge.yml", 3).await;
    assert_eq!(puts(), before + 1);
    // An event without a change: no byte of the file changes.
    put(&cluster, ns, "cache", 3).await;
    // A burst is one write, or two on a slow machine.
    for n in 1..=10 {
        put(&cluster, ns, "web", n).await;
    }
    until(&bed, "edge.yml", 13).await;
    assert!(puts() <= before + 4, "{} writes", puts() - before);
    delete(&cluster, ns, "web").await;
    until(&bed, "edge.yml", 3).await;
    delete(&cluster, ns, "cache").await;
    // Traefik refuses empty sections.
    testkit::eventually!("an empty file", bed.text("edge.yml").await, |text| text.as_deref() == Some("{}\n"));
    running.end().await;
}

/// Leaves a slice without ports, as a Service that is scaled to zero has it. After a restart that is all the process sees.
#[tokio::test]
async fn a_service_scaled_to_nothing_keeps_its_backend_also_over_a_restart() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    put(&cluster, ns, "cache", 2).await;
    let service = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: cache, namespace: {ns}, labels: {{export: 'yes'}}}}, \
         spec: {{ports: [{{name: http, port: 80, targetPort: 8080}}]}}}}"
    );
    cluster.apply_yaml(&service).await.expect("a valid Service");
    let bed = bed::file().await;
    let running = run(account.kubeconfig_path(), ns, export(vec![bed.target("edge.yml")]), &bed).await;
    until(&bed, "edge.yml", 2).await;
    let placeholder = format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: cache-1, namespace: {ns}, \
         labels: {{kubernetes.io/service-name: cache}}}}, addressType: IPv4, endpoints: [], ports: []}}"
    );
    cluster.apply_yaml(&placeholder).await.expect("a valid slice");
    let text = until(&bed, "edge.yml", 0).await;
    assert!(text.contains("cache-8080"), "{text}");
    running.end().await;
    // Another file, so that no content of an earlier process counts.
    let running = run(account.kubeconfig_path(), ns, export(vec![bed.target("again.yml")]), &bed).await;
    assert_eq!(until(&bed, "again.yml", 0).await, text);
    put(&cluster, ns, "cache", 1).await;
    let text = until(&bed, "again.yml", 1).await;
    assert!(text.contains("cache-8080") && text.matches("loadBalancer").count() == 1, "{text}");
    running.end().await;
}

/// Rule: written after 200 ms without a further change, 2 s after the first at the latest; here with other numbers.
#[tokio::test]
async fn a_change_waits_for_quiet_but_not_for_ever() {
    const NEVER: Duration = Duration::from_secs(3600);
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    put(&cluster, ns, "cache", 1).await;
    let short = Duration::from_millis(300);
    for (quiet, at_most) in [(short, NEVER), (NEVER, short)] {
        let bed = bed::file().await;
        let export = Export { pace: Pace { quiet, at_most, ..PACE }, ..export(vec![bed.target("edge.yml")]) };
        let began = Instant::now();
        let running = run(account.kubeconfig_path(), ns, export, &bed).await;
        until(&bed, "edge.yml", 1).await;
        assert!(began.elapsed() >= short, "{:?}", began.elapsed());
        running.end().await;
    }
}

#[tokio::test]
async fn a_sink_in_trouble_is_told_and_holds_up_no_other() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    put(&cluster, ns, "cache", 1).await;
    let (bed, files) = (bed::s3s().await, bed::file().await);
    let front = bed.front.as_ref().expect("it has one");
    front.fault(Fault::Status(403));
    let sinks = vec![bed.target("edge.yml"), files.target("edge.yml")];
    let running = run(account.kubeconfig_path(), ns, export(sinks), &bed).await;
    until(&files, "edge.yml", 1).await;
    let told =
        testkit::eventually!("the trouble to be told", why(&running), |why| why.contains("s3://bucket/edge.yml"));
    assert!(!told.contains("edge.yml: nothing"), "{told}");
    put(&cluster, ns, "cache", 2).await;
    until(&files, "edge.yml", 2).await;
    front.fault(Fault::Hang);
    put(&cluster, ns, "cache", 3).await;
    until(&files, "edge.yml", 3).await;
    front.fault(Fault::None);
    until(&bed, "edge.yml", 3).await;
    testkit::eventually!("readiness", running.readiness.is_ready(), |ready| *ready);
    running.end().await;
}

#[tokio::test]
async fn without_the_api_server_everything_stays() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    put(&cluster, ns, "cache", 12).await;
    let proxy = FaultProxy::start(&cluster).await;
    let kubeconfig = proxy.kubeconfig(account.kubeconfig_path());
    let bed = bed::file().await;
    let running = run(kubeconfig.path(), ns, export(vec![bed.target("edge.yml")]), &bed).await;
    until(&bed, "edge.yml", 12).await;
    testkit::eventually!("readiness", running.readiness.is_ready(), |ready| *ready);
    proxy.cut();
    put(&cluster, ns, "web", 1).await;
    let failed = proxy.count(|_| true);
    assert_eq!(until(&bed, "edge.yml", 12).await.matches("url: ").count(), 12, "after {failed} requests");
    assert!(running.readiness.is_ready(), "{}", why(&running));
    proxy.restore();
    until(&bed, "edge.yml", 13).await;
    running.end().await;
}

#[tokio::test]
async fn a_restart_removes_no_endpoint_whose_end_was_not_observed() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    put(&cluster, ns, "cache", 20).await;
    let bed = bed::s3s().await;
    let first = run(account.kubeconfig_path(), ns, export(vec![bed.target("edge.yml")]), &bed).await;
    until(&bed, "edge.yml", 20).await;
    first.end().await;
    delete(&cluster, ns, "cache").await;
    put(&cluster, ns, "web", 2).await;

    let second = run(account.kubeconfig_path(), ns, export(vec![bed.target("edge.yml")]), &bed).await;
    let told = testkit::eventually!("the guard to tell", why(&second), |why| why.contains("18 of 20 endpoints"));
    assert!(told.contains("--max-shrink 30 %"), "{told}");
    until(&bed, "edge.yml", 20).await;
    // What makes up for it may be written.
    put(&cluster, ns, "web", 15).await;
    until(&bed, "edge.yml", 15).await;
    testkit::eventually!("readiness", second.readiness.is_ready(), |ready| *ready);
    // Deletions that the watch reports are applied.
    put(&cluster, ns, "web", 1).await;
    until(&bed, "edge.yml", 1).await;
    second.end().await;

    // An empty result is held for a while, even if there were few endpoints.
    delete(&cluster, ns, "web").await;
    // Long enough to be seen while it lasts.
    let hold = Duration::from_secs(5);
    let limits = Limits { empty_hold: hold, ..Limits::default() };
    let held = Export { limits, ..export(vec![bed.target("edge.yml")]) };
    let began = Instant::now();
    let third = run(account.kubeconfig_path(), ns, held, &bed).await;
    testkit::eventually!("the hold to be told", why(&third), |why| why.contains("--empty-hold"));
    testkit::eventually!("an empty file", bed.text("edge.yml").await, |text| text.as_deref() == Some("{}\n"));
    assert!(began.elapsed() >= hold, "{:?}", began.elapsed());
    third.end().await;
}

/// Rule: the shrink guard concerns losses inferred from a relist, never deletions seen on the watch.
#[tokio::test]
async fn losses_from_a_list_are_held_and_observed_deletions_are_applied() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    put(&cluster, ns, "cache", 20).await;
    put(&cluster, ns, "web", 12).await;
    let proxy = FaultProxy::start(&cluster).await;
    let kubeconfig = proxy.kubeconfig(account.kubeconfig_path());
    let bed = bed::file().await;
    let running = run(kubeconfig.path(), ns, export(vec![bed.target("edge.yml")]), &bed).await;
    until(&bed, "edge.yml", 32).await;
    // Deletes all at once, reported by the watch.
    delete(&cluster, ns, "web").await;
    until(&bed, "edge.yml", 20).await;

    proxy.cut();
    delete(&cluster, ns, "cache").await;
    put(&cluster, ns, "new", 1).await;
    // The watch cannot resume, so everything is listed again.
    proxy.always(|call| call.verb == Verb::Watch, Line::Answer(410));
    proxy.restore();
    let told =
        testkit::eventually!("the guard to tell", why(&running), |why| why.contains("20 of 20 endpoints are gone"));
    assert!(told.contains("--max-shrink 30 %"), "{told}");
    until(&bed, "edge.yml", 21).await;
    proxy.clear();
    // They come back, and the watch reports their deletion.
    put(&cluster, ns, "cache", 20).await;
    testkit::eventually!("readiness", running.readiness.is_ready(), |ready| *ready);
    delete(&cluster, ns, "cache").await;
    until(&bed, "edge.yml", 1).await;
    running.end().await;
}

#[tokio::test]
async fn a_permitted_shrink_removes_endpoints() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    let bed = bed::file().await;
    let old = (1..=50).map(|n| format!("http://192.0.2.{n}:80")).collect::<Vec<_>>().join("\n");
    bed.open("edge.yml", false).put(&[document("", old)], &writer("the old tool"), None).await.expect("it is written");
    let limits = Limits { max_shrink: 1.0, empty_hold: Duration::ZERO };
    let export = Export { limits, ..export(vec![bed.target("edge.yml")]) };
    let running = run(account.kubeconfig_path(), ns, export, &bed).await;
    testkit::eventually!("an empty file", bed.text("edge.yml").await, |text| text.as_deref() == Some("{}\n"));
    running.end().await;
}

#[tokio::test]
async fn a_namespace_that_may_not_be_read_keeps_what_is_there() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    let forbidden = cluster.namespace("forbidden").await;
    put(&cluster, ns, "cache", 2).await;
    let bed = bed::file().await;
    let old = "http://192.0.2.1:8080 http://192.0.2.99:8080";
    bed.open("edge.yml", false).put(&[document("", old)], &writer("before"), None).await.expect("it is written");
    let connection = connect(Some(account.kubeconfig_path())).await.expect("a valid kubeconfig");
    let readiness = Readiness::new();
    let selector = Selector::parse("export=yes").expect("a selector");
    let namespaces = Some(vec![ns.into(), Arc::from(&*forbidden)]);
    let reader = follow(
        &KubeCluster::new(connection.client),
        Selection::Labels { selector, namespaces },
        readiness.register("catalog"),
    );
    let process = Process { leadership: Leadership::alone(), identity: "test".into(), readiness: readiness.clone() };
    let pipeline = Pipeline::new(export(vec![bed.target("edge.yml")]), reader, &process, &bed.connect);
    let drain = Drain::new();
    let task = tokio::spawn(pipeline.expect("it can be used").run(drain.watch()));
    let why = || readiness.check().err().unwrap_or_default();
    // After the wait for the first list has timed out.
    let told = testkit::eventually!("the guard to tell", within Duration::from_secs(30), why(), |why| {
        why.contains("1 endpoints would be removed")
    });
    assert!(told.contains(&forbidden) && told.contains("forbidden"), "{told}");
    assert_eq!(bed.text("edge.yml").await.as_deref(), Some(old));
    drain.start();
    testkit::eventually::within("the end", task).await.expect("it does not panic");
}

#[tokio::test]
async fn once_writes_every_sink_and_ends() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let ns = account.namespace();
    put(&cluster, ns, "cache", 2).await;
    let (bed, files) = (bed::s3s().await, bed::file().await);
    let sinks = || vec![bed.target("edge.yml"), files.target("dir/edge.yml")];
    let limit = testkit::eventually::patience();
    let (once, _readiness) = pipeline(account.kubeconfig_path(), ns, export(sinks()), &bed).await;
    assert_eq!(once.once(limit).await, Ok(()));
    until(&bed, "edge.yml", 2).await;
    until(&files, "dir/edge.yml", 2).await;
    bed.front.as_ref().expect("it has one").fault(Fault::Status(403));
    put(&cluster, ns, "cache", 3).await;
    let (once, _readiness) = pipeline(account.kubeconfig_path(), ns, export(sinks()), &bed).await;
    let began = Instant::now();
    let failed = once.once(Duration::from_secs(600)).await.expect_err("one sink is in trouble");
    assert!(failed.contains("s3://bucket/edge.yml") && !failed.contains("dir/edge.yml"), "{failed}");
    assert!(began.elapsed() < Duration::from_secs(300), "what will not pass is not waited for");
    until(&files, "dir/edge.yml", 3).await;

    // Nor does an invalid template.
    let template = Some("{% for one in backends %}\n{{ one.nmae.x }}\n{% endfor %}".into());
    let options = FormatOptions { template, ..FormatOptions::default() };
    let format = Format::parse("template", &options).expect("a template");
    let wrong = Export { format, ..export(vec![files.target("text")]) };
    let (once, _readiness) = pipeline(account.kubeconfig_path(), ns, wrong, &bed).await;
    let failed = once.once(Duration::from_secs(600)).await.expect_err("it cannot be rendered");
    assert!(failed.contains("cannot be rendered: line 2"), "{failed}");
}

#[tokio::test]
async fn a_set_needs_a_directory_and_one_file_a_name() {
    let cluster = cluster::shared().await;
    let account = account(&cluster).await;
    let bed = bed::file().await;
    let options = FormatOptions { directory: Some("/etc/envoy".into()), ..FormatOptions::default() };
    let envoy = Format::parse("envoy", &options).expect("a format");
    let json = Format::parse("json", &FormatOptions::default()).expect("a format");
    let connection = connect(Some(account.kubeconfig_path())).await.expect("a valid kubeconfig");
    let kube = KubeCluster::new(connection.client);
    for (format, place, why) in [(envoy, "eds.json", "end the place with `/`"), (json, "", "name it")] {
        let readiness = Readiness::new();
        let selection = Selection::Labels { selector: Selector::parse("").expect("all"), namespaces: None };
        let reader = follow(&kube, selection, readiness.register("catalog"));
        let process = Process { leadership: Leadership::alone(), identity: "test".into(), readiness };
        let export = Export { format, ..export(vec![bed.target(place)]) };
        let refused = Pipeline::new(export, reader, &process, &bed.connect).err().expect("they do not fit");
        assert!(refused.what.contains(why), "{refused}");
    }
}
