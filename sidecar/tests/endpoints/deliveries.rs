//! The hosts file and the command.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use kubekit::fault_proxy::{Fault, Verb};
use sidecar::{
    command::CommandLine,
    endpoints::{Deliver, Exec, HostsFile},
};
use tempfile::TempDir;
use testkit::eventually;

use crate::bed::Bed;

fn hosts(folder: &TempDir, content: &str) -> HostsFile {
    let path = folder.path().join("hosts");
    fs::write(&path, content).expect("it can be written");
    HostsFile { path, domain: "cluster.local".into() }
}

/// A shell script with this file as its first argument.
fn exec(script: &str, file: &Path, timeout: Duration) -> Exec {
    let words = ["sh", "-c", script, "sh", &file.display().to_string()].map(String::from).to_vec();
    Exec { command: CommandLine::new(words).expect("a program"), debounce: Duration::from_millis(50), timeout }
}

fn read(path: &PathBuf) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test]
async fn the_hosts_file_follows_the_endpoints_and_loses_nothing_while_they_are_not_known() {
    let bed = Bed::new("hosts").await;
    let folder = TempDir::new().expect("a temporary folder");
    bed.ready("db", &[1, 2]).await;
    bed.ready("cache", &[9]).await;
    let file = hosts(&folder, "127.0.0.1\tlocalhost\n");
    let (path, ns) = (file.path.clone(), bed.namespace.clone());
    let deliver = Deliver { hosts: Some(file), exec: None };
    let running = bed.run(&["db", "cache"], None, deliver.clone()).await;
    let line =
        |n: u8, service: &str| format!("192.0.2.{n}\th-{n}.{service}.{ns}.svc.cluster.local h-{n}.{service}.{ns}.svc");
    let all = [line(1, "db"), line(2, "db"), line(9, "cache")];
    eventually!("all names", read(&path), |text| all.iter().all(|line| text.contains(line)));
    bed.ready("db", &[2]).await;
    let text = eventually!("one less", read(&path), |text| !text.contains("192.0.2.1\t"));
    assert!(text.starts_with("127.0.0.1\tlocalhost\n") && text.contains(&all[1]) && text.contains(&all[2]), "{text}");
    drop(running);

    // A new process that does not know one of them yet leaves its names alone.
    let cache = |call: &kubekit::fault_proxy::Call| call.verb == Verb::List && call.query.contains("cache");
    bed.proxy.always(cache, Fault::Answer(503));
    bed.ready("db", &[3]).await;
    let _running = bed.run(&["db", "cache"], None, deliver).await;
    let text = eventually!("the new name", read(&path), |text| text.contains(&line(3, "db")));
    assert!(text.contains(&all[2]) && !text.contains(&all[1]), "{text}");
}

#[tokio::test]
async fn a_block_that_somebody_takes_away_comes_back() {
    let bed = Bed::new("hosts-back").await;
    let folder = TempDir::new().expect("a temporary folder");
    bed.ready("db", &[1]).await;
    let file = hosts(&folder, "");
    let path = file.path.clone();
    let _running = bed.run(&["db"], None, Deliver { hosts: Some(file), exec: None }).await;
    eventually!("the name", read(&path), |text| text.contains("192.0.2.1"));
    // As the kubelet does when a container of the pod restarts.
    fs::write(&path, "127.0.0.1\tlocalhost\n").expect("it can be written");
    let text = eventually!("the block", within Duration::from_secs(30), read(&path), |text| text.contains("192.0.2.1"));
    assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
}

#[tokio::test]
async fn the_command_runs_after_the_hosts_file_is_written_and_sees_the_last_state() {
    let bed = Bed::new("exec").await;
    let folder = TempDir::new().expect("a temporary folder");
    bed.ready("db", &[1]).await;
    let file = hosts(&folder, "");
    let (path, log) = (file.path.clone(), folder.path().join("log"));
    // A slow command that copies the current hosts file.
    let script = r#"cp "$(dirname "$1")/hosts" "$1.$$" && echo "$FANFARE_CHANGED" >> "$1.names" && sleep 0.2 && mv "$1.$$" "$1""#;
    let exec = exec(script, &log, Duration::from_secs(10));
    let deliver = Deliver { hosts: Some(file), exec: Some(exec) };
    let _running = bed.run(&["db"], None, deliver).await;
    eventually!("the first run", read(&log), |text| text.contains("192.0.2.1\t"));
    for n in 2..=6 {
        bed.ready("db", &[n]).await;
    }
    let last = eventually!("the last state", read(&log), |text| text.contains("192.0.2.6\t"));
    assert_eq!(last, read(&path));
    let names = fs::read_to_string(folder.path().join("log.names")).expect("it is there");
    assert!(names.lines().all(|line| line == format!("{}/db", bed.namespace)), "{names}");
}

#[tokio::test]
async fn a_command_that_hangs_or_fails_is_ended_and_run_again() {
    let bed = Bed::new("exec-bad").await;
    let folder = TempDir::new().expect("a temporary folder");
    bed.ready("db", &[1]).await;
    let log = folder.path().join("log");
    // The first run hangs, with a child of its own, the second fails, the third does it.
    let script = r#"echo $$ >> "$1"; case $(wc -l < "$1") in 1) sleep 600 & sleep 600;; 2) exit 3;; *) echo done >> "$1";; esac"#;
    let deliver = Deliver { hosts: None, exec: Some(exec(script, &log, Duration::from_secs(2))) };
    let _running = bed.run(&["db"], None, deliver).await;
    let text = eventually!("the third run", read(&log), |text| text.contains("done"));
    let hung = text.lines().next().expect("it ran");
    assert!(!Path::new(&format!("/proc/{hung}")).exists(), "process {hung} is gone");
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[tokio::test]
async fn a_command_that_runs_when_the_process_ends_is_killed() {
    let bed = Bed::new("exec-end").await;
    let folder = TempDir::new().expect("a temporary folder");
    bed.ready("db", &[1]).await;
    let log = folder.path().join("log");
    let deliver =
        Deliver { hosts: None, exec: Some(exec("echo $$ > \"$1\"; sleep 600", &log, Duration::from_secs(600))) };
    let running = bed.run(&["db"], None, deliver).await;
    let text = eventually!("the run", read(&log), |text| text.ends_with('\n'));
    let process = PathBuf::from(format!("/proc/{}", text.trim()));
    assert!(process.exists());
    drop(running);
    // After it was killed it is a zombie until its parent waits for it.
    let state = || fs::read_to_string(process.join("stat")).unwrap_or_default();
    eventually!("its end", state(), |stat| stat.is_empty() || stat.contains(") Z "));
}
