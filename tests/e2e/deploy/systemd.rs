//! systemd: its sockets are taken, it is told how the process is, and the units are ones that it understands.

use std::{
    net::{SocketAddr, TcpListener},
    os::{fd::AsRawFd as _, unix::net::UnixDatagram},
    path::Path,
    sync::mpsc::{self, Receiver},
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::Signal,
};
use testkit::{
    client,
    eventually::patience,
    netns,
    origin::{Origin, Reply},
    packages,
};
use tokio::process::Command;

use super::path;
use crate::process::Fanfare;

/// Starts the binary as systemd would: by a shell that moves the sockets to the numbers from 3 on and becomes the binary.
fn started(file: &Path, passed: &[(&str, &TcpListener)], variables: &[(&str, &str)]) -> Fanfare {
    let mut script = String::new();
    // Through high numbers first, so that none is overwritten before it was moved.
    for (index, (_, socket)) in passed.iter().enumerate() {
        fcntl_setfd(socket, FdFlags::empty()).expect("a socket of ours");
        script += &format!("exec {}<&{}; ", 100 + index, socket.as_raw_fd());
    }
    for index in 0..passed.len() {
        script += &format!("exec {}<&{}; ", 3 + index, 100 + index);
    }
    let names: Vec<&str> = passed.iter().map(|(name, _)| *name).collect();
    script += &format!(
        "LISTEN_PID=$$ WATCHDOG_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={} exec \"$0\" \"$@\"",
        passed.len(),
        names.join(":")
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_fanfare"), "run", "--config"]).arg(file);
    command.envs(variables.iter().copied()).env_remove("KUBECONFIG");
    Fanfare::spawn(command)
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").expect("a port of loopback is free")
}

/// A file whose own addresses nobody could listen on.
fn file(folder: &Path, origin: SocketAddr) -> std::path::PathBuf {
    let path = folder.join("fanfare.yaml");
    let text = format!(
        "admin: {{listen: '192.0.2.1:1'}}\nthreads: 2\nbroadcast:\n  - {{listen: '192.0.2.1:2', routes: [{{to: {{endpoints: ['{origin}']}}}}]}}\n"
    );
    std::fs::write(&path, text).expect("it can be written");
    path
}

/// What arrives at a socket, read at once: a message that finds its queue full is lost, as the process does not wait for systemd.
fn read_from(socket: UnixDatagram) -> Receiver<String> {
    let (sender, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length) = socket.recv(&mut buffer) {
            if sender.send(String::from_utf8_lossy(&buffer[..length]).into_owned()).is_err() {
                return;
            }
        }
    });
    told
}

/// What it is told until a message has this in it.
fn told_until(messages: &Receiver<String>, what: &str) -> Vec<String> {
    let mut told = Vec::new();
    loop {
        let text = messages.recv_timeout(patience()).unwrap_or_else(|e| panic!("{what} does not come: {e}; {told:?}"));
        told.extend(text.lines().map(str::to_owned));
        if text.lines().any(|line| line == what) {
            return told;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_sockets_are_taken_by_name_and_systemd_is_told_how_the_process_is() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let origin = Origin::start(Reply::ok("fine"));
    let (data, admin) = (listener(), listener());
    let notified = folder.path().join("notify");
    let messages = read_from(UnixDatagram::bind(&notified).expect("it can be bound"));
    let variables = [("NOTIFY_SOCKET", notified.to_str().expect("ASCII")), ("WATCHDOG_USEC", "200000")];
    // Not in the order of the file.
    let passed = [("admin", &admin), ("broadcast", &data)];
    let mut fanfare = started(&file(folder.path(), origin.address()), &passed, &variables);
    fanfare.wait_listening().await;
    assert_eq!(fanfare.address(), data.local_addr().expect("bound"));
    assert_eq!(fanfare.admin(), admin.local_addr().expect("bound"));
    fanfare.wait_ready().await;
    for _ in 0..20 {
        assert_eq!(client::get(fanfare.address(), "/").await.complete().expect_status(200).text(), "fine");
    }
    let told = told_until(&messages, "READY=1");
    assert!(!told.contains(&"STOPPING=1".to_owned()), "{told:?}");
    told_until(&messages, "STATUS=ready");
    for _ in 0..3 {
        told_until(&messages, "WATCHDOG=1");
    }
    fanfare.signal(Signal::TERM);
    told_until(&messages, "STOPPING=1");
    assert!(fanfare.exit().await.success());
    // What comes now waits for the next process.
    let mut waiting = client::RawClient::connect(data.local_addr().expect("bound")).await;
    waiting.send(b"GET /later HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let next = started(&file(folder.path(), origin.address()), &passed, &[]);
    assert_eq!(waiting.read_response("GET").await.complete().expect_status(200).text(), "fine");
    drop(next);
}

#[tokio::test]
async fn a_socket_that_nobody_takes_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let socket = listener();
    let passed = [("brodcast", &socket)];
    // Its own addresses must be good: it fails for the socket and not for these.
    let file = folder.path().join("fanfare.yaml");
    let text = "admin: {listen: '127.0.0.1:0'}\nbroadcast: [{listen: '127.0.0.1:0', routes: [{to: {endpoints: '192.0.2.1:80'}}]}]\n";
    std::fs::write(&file, text).expect("it can be written");
    let finished = started(&file, &passed, &[]).finish().await;
    assert_ne!(finished.code, Some(0));
    let expected = "brodcast is not used: FileDescriptorName must be one of broadcast, admin";
    assert!(finished.stderr.contains(expected), "{}", finished.stderr);
}

/// Whether the system hands what a socket that is closed had not taken to those that share its address.
const MIGRATES: &str = "/proc/sys/net/ipv4/tcp_migrate_req";

#[test]
fn a_port_in_use_is_refused_and_shared_where_both_say_so_without_a_failed_request() {
    netns::inside(testkit::test_name!(), async || {
        std::fs::write(MIGRATES, "1").expect("Linux 5.14 or later, and a namespace of ours");
        a_port_is_refused_where_one_does_not_say_so().await;
        a_port_is_shared(1).await;
    });
}

#[test]
fn no_request_fails_where_the_system_hands_no_connections_over() {
    netns::inside(testkit::test_name!(), async || {
        std::fs::write(MIGRATES, "0").expect("Linux 5.14 or later, and a namespace of ours");
        a_port_is_shared(5).await;
    });
}

/// A process with this endpoint at this address.
fn side_by_side(address: &str, endpoint: &Origin, more: &[&str]) -> Fanfare {
    let endpoint = endpoint.address().to_string();
    let args = [
        "broadcast",
        "-i",
        address,
        "-m",
        "127.0.0.1:0",
        "--threads=2",
        "--drain-delay=200ms",
        "--endpoints",
        &endpoint,
    ];
    Fanfare::start(args.iter().chain(more))
}

async fn a_port_is_refused_where_one_does_not_say_so() {
    let origin = Origin::start(Reply::ok("fine"));
    let mut alone = side_by_side("127.0.0.1:0", &origin, &[]);
    alone.wait_listening().await;
    for more in [&[][..], &["--reuse-port"]] {
        let refused = side_by_side(&alone.address().to_string(), &origin, more).finish().await;
        assert_ne!(refused.code, Some(0));
        assert!(refused.stderr.contains("--reuse-port"), "{}", refused.stderr);
    }
}

/// Under load, each of so many processes is replaced by the next one.
async fn a_port_is_shared(upgrades: usize) {
    let origin = Origin::start(Reply::ok("fine"));
    let mut old = side_by_side("127.0.0.1:0", &origin, &["--reuse-port"]);
    old.wait_listening().await;
    old.wait_ready().await;
    let address = old.address();
    // A connection for each request, all the time: how many were answered, and not one that was not.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let clients = (0..8).map(|_| {
        let stopped = stopped.clone();
        tokio::spawn(async move {
            let mut answered = 0_usize;
            while !*stopped.borrow() {
                client::get(address, "/").await.complete().expect_status(200);
                answered += 1;
            }
            answered
        })
    });
    let clients: Vec<_> = clients.collect();
    for _ in 0..upgrades {
        let mut new = side_by_side(&address.to_string(), &origin, &["--reuse-port"]);
        new.wait_listening().await;
        new.wait_ready().await;
        let before = origin.requests().len();
        origin.wait_requests(before + 50).await;
        old.signal(Signal::TERM);
        assert!(old.exit().await.success());
        let before = origin.requests().len();
        origin.wait_requests(before + 50).await;
        old = new;
    }
    stop.send_replace(true);
    for client in clients {
        assert!(client.await.expect("no request fails") > 0);
    }
}

#[test]
fn systemd_understands_the_units() {
    let analyze = packages::program("systemd-analyze").unwrap_or_else(|why| panic!("{why}"));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let units = ["fanfare.service", "fanfare.socket", "fanfare-admin.socket"];
    for unit in units {
        // The binary is elsewhere here, and there is no manual page.
        let text =
            super::read(&format!("deploy/systemd/{unit}")).replace("/usr/bin/fanfare", env!("CARGO_BIN_EXE_fanfare"));
        let text: String =
            text.lines().filter(|line| !line.starts_with("Documentation=")).map(|line| format!("{line}\n")).collect();
        std::fs::write(folder.path().join(unit), text).expect("it can be written");
    }
    let files = units.map(|unit| folder.path().join(unit));
    let output = std::process::Command::new(analyze)
        .arg("verify")
        .args(&files)
        .env("SYSTEMD_UNIT_PATH", format!("{}:", folder.path().display()))
        .output()
        .expect("it can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    let ours: Vec<&str> = said.lines().filter(|line| line.contains("fanfare")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
    assert!(path("deploy/systemd/README.md").exists());
}
