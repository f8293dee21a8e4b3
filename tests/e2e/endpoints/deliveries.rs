//! The hosts file, also as a mount as in a pod, and the command.

use std::{fs, path::Path, process::Command};

use rustix::process::Signal;
use tempfile::TempDir;

use super::bed::Bed;
use crate::process::Fanfare;

/// Makes the file a mount, which cannot be replaced by a rename, and executes the rest.
const WITH_A_MOUNT: &str = "mount --bind \"$HOSTS\" \"$HOSTS\" && exec \"$@\"";

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test]
async fn a_hosts_file_that_is_a_mount_is_written_in_place() {
    let bed = Bed::new("mount").await;
    bed.slice("db-1", "db", [1, 2]).await;
    let folder = TempDir::new().expect("a temporary folder");
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, "127.0.0.1\tlocalhost\n").expect("it can be written");
    let before = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&hosts).expect("it is there"));
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", WITH_A_MOUNT, "sh"]);
    command.args([env!("CARGO_BIN_EXE_fanfare"), "endpoints", "-s", "db", "--listen=127.0.0.1:0", "--hosts-file"]);
    command
        .arg(&hosts)
        .args(["-n", &bed.namespace, "-k", &bed.kubeconfig()])
        .env("HOSTS", &hosts)
        .env_remove("KUBECONFIG");
    let fanfare = Fanfare::spawn(command.into());
    let name = |n: u32| format!("10.1.0.{n}\th-{n}.db.{}.svc.cluster.local", bed.namespace);
    testkit::eventually!("the names", read(&hosts), |text| text.contains(&name(2)));
    bed.slice("db-1", "db", [3]).await;
    let text = testkit::eventually!("the change", read(&hosts), |text| text.contains(&name(3)));
    assert!(text.starts_with("127.0.0.1\tlocalhost\n") && !text.contains(&name(1)), "{text}");
    assert_eq!(text.matches("fanfare endpoints").count(), 2, "one block: {text}");
    let after = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&hosts).expect("it is there"));
    assert_eq!(before, after, "it is the same file");
    assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1, "nothing is left beside it");
    fanfare.stderr.wait("it to be said", |log| log.contains("written in place")).await;
}

#[tokio::test]
async fn the_command_runs_on_a_change_without_a_shell_and_ends_with_the_process() {
    let bed = Bed::new("command").await;
    bed.slice("db-1", "db", [1]).await;
    let folder = TempDir::new().expect("a temporary folder");
    let script = folder.path().join("a $(touch injected) command");
    let log = folder.path().join("log");
    let text = "#!/bin/sh\necho \"$FANFARE_CHANGED $2\" >> \"$1\"\nexec sleep 600\n";
    fs::write(&script, text).expect("it can be written");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
    let command = format!("'{}' '{}' '; touch {}/injected'", script.display(), log.display(), folder.path().display());
    let flags = ["--exec", &command, "--exec-debounce=10ms", "--exec-timeout=1s"];
    let (fanfare, _address) = bed.start("db", &flags).await;
    let line = format!("{}/db ; touch {}/injected\n", bed.namespace, folder.path().display());
    // It is killed after a second, and runs again, because it failed.
    testkit::eventually!("two runs", read(&log), |text| *text == line.repeat(2));
    assert!(fanfare.stderr.text().contains("took too long and was killed"));
    fanfare.signal(Signal::TERM);
    assert_eq!(fanfare.finish().await.code, Some(0));
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).expect("it is there").flatten().map(|e| e.file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
}
