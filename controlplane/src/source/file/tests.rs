//! The file source with real files, and its host names against a real DNS server.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use runtime::metrics::Metrics;
use runtime::readiness::Readiness;
use snapshot::{Reader, channel};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::super::dns::Settings;
use super::super::dns::server::{Reply, Server, addresses, cluster, wait_for, wait_not_ready, wait_ready};
use super::*;

struct Running {
    dir: TempDir,
    path: PathBuf,
    reader: Reader,
    readiness: Readiness,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// For lists without names.
fn no_names() -> Resolver {
    let nowhere = Path::new("/nowhere");
    Resolver::of_files(nowhere, nowhere, Settings::default())
}

impl Running {
    fn start(name: &str, content: Option<&str>, resolver: Resolver) -> Self {
        Self::start_cluster(cluster(), name, content, resolver)
    }

    fn start_cluster(cluster: ClusterName, name: &str, content: Option<&str>, resolver: Resolver) -> Self {
        recorder();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let (publisher, reader) = channel();
        let readiness = Readiness::new();
        let files = path.to_str().unwrap().parse().unwrap();
        let (poller, gate) = (Poller::every(Duration::from_millis(5)), readiness.register("file"));
        let source = FileSource { cluster, files, poller, resolver, publisher, gate };
        Self { dir, path, reader, readiness, task: tokio::spawn(source.run()) }
    }

    /// Replaces the file in one step, as editors and ConfigMaps do.
    fn replace(&self, content: &str) {
        let new = self.dir.path().join("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, &self.path).unwrap();
    }

    async fn expect(&self, expected: &[&str]) {
        wait_for(&self.reader, "c", expected).await;
    }
}

/// Installed before the first source counts anything.
fn recorder() -> &'static Metrics {
    static RECORDER: OnceLock<Metrics> = OnceLock::new();
    RECORDER.get_or_init(|| runtime::metrics::install().unwrap())
}

/// Waits until something was passed over so often: the counter proves that it was seen.
async fn wait_passed_over(cluster: &str, result: &str, times: u64) {
    let recorder = recorder();
    let series = format!("{FILE_READS}{{cluster=\"{cluster}\",result=\"{result}\"}} ");
    let passed_over =
        || recorder.render().lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or(0);
    testkit::eventually!("it to be passed over", passed_over(), |seen: &u64| *seen >= times);
}

#[tokio::test]
async fn json_and_yaml_are_read_and_changes_followed() {
    let json = Running::start(
        "list.json",
        Some(r#"[{"targets": ["192.0.2.2:80", "[2001:db8::1]:80"]}, {"targets": ["192.0.2.1:80"]}]"#),
        no_names(),
    );
    json.expect(&["192.0.2.1:80", "192.0.2.2:80", "[2001:db8::1]:80"]).await;
    wait_ready(&json.readiness).await;
    json.replace(r#"[{"targets": ["192.0.2.3:80"]}]"#);
    json.expect(&["192.0.2.3:80"]).await;
    json.replace("[]");
    json.expect(&[]).await;

    let yaml = Running::start("list.yml", Some("- targets: ['192.0.2.1:80']\n  labels: {job: cache}\n"), no_names());
    yaml.expect(&["192.0.2.1:80"]).await;
    fs::write(&yaml.path, "- targets:\n    - 192.0.2.4:80\n").unwrap();
    yaml.expect(&["192.0.2.4:80"]).await;
}

#[tokio::test]
async fn a_broken_edit_and_a_vanished_file_keep_the_last_good_list() {
    let name = ClusterName::new("broken").unwrap();
    let running = Running::start_cluster(name, "list.yaml", Some("- targets: ['192.0.2.1:80']"), no_names());
    wait_for(&running.reader, "broken", &["192.0.2.1:80"]).await;
    let before = running.reader.load().version();
    let broken = ["- targets: ['192.0.2.1:80'", "- targets: ['192.0.2.2']", "", "hosts: [a]", "- tragets: []", "null"];
    for (number, content) in (1..).zip(broken) {
        running.replace(content);
        wait_passed_over("broken", "invalid", number).await;
        assert_eq!(running.reader.load().version(), before, "{content:?}");
        assert!(running.readiness.is_ready(), "{content:?}");
    }
    fs::remove_file(&running.path).unwrap();
    wait_passed_over("broken", "unreadable", 1).await;
    assert_eq!(running.reader.load().version(), before);
    assert!(running.readiness.is_ready());
    running.replace("- targets: ['192.0.2.1:80', '192.0.2.2:80']");
    wait_for(&running.reader, "broken", &["192.0.2.1:80", "192.0.2.2:80"]).await;
}

#[tokio::test]
async fn a_missing_or_broken_first_file_is_not_ready_and_recovers() {
    let running = Running::start("list.json", None, no_names());
    wait_not_ready(&running.readiness, "No such file").await;
    running.replace("[{\"targets\": [\"192.0.2.1\"]}]");
    wait_not_ready(&running.readiness, "group 0, target \"192.0.2.1\": the port is missing").await;
    running.replace("");
    wait_not_ready(&running.readiness, "it is empty").await;
    assert_eq!(addresses(&running.reader, "c"), None);
    running.replace("[{\"targets\": [\"192.0.2.1:80\"]}]");
    running.expect(&["192.0.2.1:80"]).await;
    wait_ready(&running.readiness).await;
}

#[tokio::test]
async fn labels_describe_the_endpoints() {
    let text = "
- targets: ['192.0.2.1:80']
  labels: {__zone__: west, zone: east, node: node-1, pod: cache-0, namespace: shop, other: ignored}
- targets: ['192.0.2.2:80']
  labels: {zone: 7, __zone__: null, node: '', pod: , rack: ~}
";
    let running = Running::start("list.yml", Some(text), no_names());
    running.expect(&["192.0.2.1:80", "192.0.2.2:80"]).await;
    let snapshot = running.reader.load();
    let endpoints = snapshot.cluster("c").unwrap().endpoints();
    let (one, two) = (&endpoints[0], &endpoints[1]);
    assert_eq!(
        (one.zone.as_deref(), one.node.as_deref(), one.label()),
        (Some("west"), Some("node-1"), Some("cache-0"))
    );
    assert_eq!(one.pod.as_ref().map(|pod| &*pod.namespace), Some("shop"));
    assert_eq!((two.zone.as_deref(), two.node.as_deref(), two.label()), (Some("7"), None, None));
}

#[tokio::test]
async fn host_names_are_resolved_and_one_that_does_not_is_an_endpoint_all_the_same() {
    let server = Server::start().await;
    server.set_v4("a.example.", &[[192, 0, 2, 1]], 1);
    for record in [RecordType::A, RecordType::AAAA] {
        server.set("lost.example.", record, Reply::Code(ResponseCode::ServFail));
    }
    let list = "- targets: ['a.example.:80', 'lost.example.:80']\n  labels: {zone: west}\n";
    let running = Running::start("list.yml", Some(list), server.client(&[], 1));
    running.expect(&["a.example:80=192.0.2.1", "lost.example:80=?"]).await;
    wait_ready(&running.readiness).await;
    let zones =
        running.reader.load().cluster("c").unwrap().endpoints().iter().map(|e| e.zone.clone()).collect::<Vec<_>>();
    assert_eq!(zones, [Some("west".into()), Some("west".into())]);
    running.replace("- targets: ['a.example.:80', '192.0.2.9:80']");
    running.expect(&["192.0.2.9:80", "a.example:80=192.0.2.1"]).await;
    running.replace("- targets: ['a.example.:81', 'lost.example.:80', '192.0.2.8:80']");
    running.expect(&["192.0.2.8:80", "a.example:81=192.0.2.1", "lost.example:80=?"]).await;
    server.set_v4("lost.example.", &[[192, 0, 2, 5]], 1);
    running.expect(&["192.0.2.8:80", "a.example:81=192.0.2.1", "lost.example:80=192.0.2.5"]).await;
    server.set_v4("a.example.", &[[192, 0, 2, 2]], 1);
    running.expect(&["192.0.2.8:80", "a.example:81=192.0.2.2", "lost.example:80=192.0.2.5"]).await;
}

/// A pattern in a folder of its own.
fn matching(files: &[(&str, &str)]) -> Running {
    matching_for(cluster(), files)
}

fn matching_for(cluster: ClusterName, files: &[(&str, &str)]) -> Running {
    let running = Running::start_cluster(cluster, "*.json", None, no_names());
    // Whatever the order in which they are seen, all of them are read before anything is published.
    for (name, content) in files {
        running.put(name, content);
    }
    running
}

impl Running {
    /// Writes a file beside the others in one step.
    fn put(&self, name: &str, content: &str) {
        let new = self.dir.path().join("new");
        fs::write(&new, content).unwrap();
        fs::rename(new, self.dir.path().join(name)).unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.dir.path().join(name)).unwrap();
    }
}

fn list(target: &str) -> String {
    format!("[{{\"targets\": [\"{target}\"]}}]")
}

#[tokio::test]
async fn all_files_that_a_pattern_matches_are_one_list_and_are_followed() {
    let running = matching(&[("b.json", &list("192.0.2.2:80")), ("a.json", &list("192.0.2.1:80"))]);
    running.expect(&["192.0.2.1:80", "192.0.2.2:80"]).await;
    wait_ready(&running.readiness).await;
    running.put("c.json", &list("192.0.2.3:80"));
    running.expect(&["192.0.2.1:80", "192.0.2.2:80", "192.0.2.3:80"]).await;
    running.put("a.json", &list("192.0.2.4:80"));
    running.expect(&["192.0.2.2:80", "192.0.2.3:80", "192.0.2.4:80"]).await;
    running.remove("b.json");
    running.expect(&["192.0.2.3:80", "192.0.2.4:80"]).await;
    // What does not match, is hidden or is a folder plays no part.
    fs::create_dir(running.dir.path().join("d.json")).unwrap();
    running.put(".e.json", &list("192.0.2.5:80"));
    running.put("f.yaml", &list("192.0.2.6:80"));
    running.put("g.json", &list("192.0.2.7:80"));
    running.expect(&["192.0.2.3:80", "192.0.2.4:80", "192.0.2.7:80"]).await;
}

#[tokio::test]
async fn a_target_in_two_files_has_the_properties_of_the_first_file() {
    let zoned = |zone: &str| format!("[{{\"targets\": [\"192.0.2.1:80\"], \"labels\": {{\"zone\": \"{zone}\"}}}}]");
    let running = matching(&[("b.json", &zoned("b")), ("a.json", &zoned("a")), ("c.json", &list("192.0.2.2:80"))]);
    running.expect(&["192.0.2.1:80", "192.0.2.2:80"]).await;
    let snapshot = running.reader.load();
    let zones: Vec<_> = snapshot.cluster("c").unwrap().endpoints().iter().map(|one| one.zone.as_deref()).collect();
    assert_eq!(zones, [Some("a"), None]);
}

#[tokio::test]
async fn a_bad_file_keeps_its_own_last_good_list_and_stops_no_other() {
    let running = matching(&[("a.json", &list("192.0.2.1:80")), ("b.json", &list("192.0.2.2:80"))]);
    running.expect(&["192.0.2.1:80", "192.0.2.2:80"]).await;
    running.put("a.json", "[{\"targets\": [");
    running.put("b.json", &list("192.0.2.3:80"));
    running.expect(&["192.0.2.1:80", "192.0.2.3:80"]).await;
    // One that was never good has nothing to keep.
    running.put("c.json", "");
    running.put("d.json", &list("192.0.2.4:80"));
    running.expect(&["192.0.2.1:80", "192.0.2.3:80", "192.0.2.4:80"]).await;
    assert!(running.readiness.is_ready());
    running.remove("a.json");
    running.expect(&["192.0.2.3:80", "192.0.2.4:80"]).await;
}

#[tokio::test]
async fn a_pattern_that_matches_nothing_is_like_a_file_that_is_not_there() {
    let running = matching_for(ClusterName::new("none").unwrap(), &[]);
    wait_not_ready(&running.readiness, "no file matches").await;
    assert_eq!(addresses(&running.reader, "none"), None);
    running.put("a.json", "[");
    wait_not_ready(&running.readiness, "a.json: ").await;
    running.put("a.json", &list("192.0.2.1:80"));
    wait_for(&running.reader, "none", &["192.0.2.1:80"]).await;
    wait_ready(&running.readiness).await;
    // The last list stays until there is another.
    running.remove("a.json");
    wait_passed_over("none", "unreadable", 2).await;
    wait_for(&running.reader, "none", &["192.0.2.1:80"]).await;
    assert!(running.readiness.is_ready());
    running.put("b.json", &list("192.0.2.2:80"));
    wait_for(&running.reader, "none", &["192.0.2.2:80"]).await;
    running.put("b.json", "[]");
    wait_for(&running.reader, "none", &[]).await;
}
