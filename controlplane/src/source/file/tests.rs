//! The file source with real files, and its host names against a real DNS server.

use std::fs;

use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::RecordType;
use proptest::prelude::*;
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
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        }
        let (publisher, reader) = channel();
        let readiness = Readiness::new();
        let mut source = FileSource::new(cluster, path.clone(), resolver, publisher, readiness.register("file"));
        source.interval = Duration::from_millis(5);
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
    let recorder = runtime::metrics::install().unwrap();
    // The counter of what was passed over proves that it was seen.
    let passed_over = |result: &str| -> u64 {
        let series = format!("{FILE_READS}{{cluster=\"broken\",result=\"{result}\"}} ");
        recorder.render().lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap_or(0)
    };
    let wait_passed_over = async |result: &str, times: u64| {
        let seen = async {
            while passed_over(result) < times {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(30), seen).await;
        assert!(seen.is_ok(), "{result} {times} times, only {}", passed_over(result));
    };
    let name = ClusterName::new("broken").unwrap();
    let running = Running::start_cluster(name, "list.yaml", Some("- targets: ['192.0.2.1:80']"), no_names());
    wait_for(&running.reader, "broken", &["192.0.2.1:80"]).await;
    let before = running.reader.load().version();
    let broken = ["- targets: ['192.0.2.1:80'", "- targets: ['192.0.2.2']", "", "hosts: [a]", "- tragets: []", "null"];
    for (number, content) in (1..).zip(broken) {
        running.replace(content);
        wait_passed_over("invalid", number).await;
        assert_eq!(running.reader.load().version(), before, "{content:?}");
        assert!(running.readiness.is_ready(), "{content:?}");
    }
    fs::remove_file(&running.path).unwrap();
    wait_passed_over("unreadable", 1).await;
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
    let [one, two] = snapshot.cluster("c").unwrap().endpoints() else { panic!("two endpoints") };
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

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let table = [
        ("x.json", "[{\"targets\": [\n1]}]", "line 2"),
        ("x.json", "{}", "invalid type: map"),
        ("x.yml", "- targets: [a:1]\n  labels: [x]\n", "group 0: "),
        ("x.yml", "- targets: [a:1\n", "line "),
        ("x.yml", "a: b\n", "a list of groups"),
        ("x.json", "[{}]", "group 0 has no targets"),
        ("x.yml", "- targets: [a:1]\n  label: {}\n", "unknown field `label`"),
        ("x.yml", "- targets: []\n- targets: [a:1, b]\n", "group 1, target \"b\""),
    ];
    for (name, text, part) in table {
        let error = parse(Path::new(name), text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(part), "{text:?}: {error}");
    }
    assert_eq!(parse(Path::new("x"), b"\xff\xfe"), Err(FileError::NotText));
}

proptest! {
    #[test]
    fn no_content_panics(bytes: Vec<u8>, text in "([\\[\\]{}:,\"' \n-]|targets|labels|a:1|192.0.2.1:80|zone){0,40}") {
        for name in ["x.json", "x.yml"] {
            let _ = parse(Path::new(name), &bytes);
            let _ = parse(Path::new(name), text.as_bytes());
        }
    }
}
