//! The access log: on a real disk that fills up requests go on, and every entry is written once there is room again; clients have one address.

use std::{
    collections::HashSet,
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use testkit::{
    client::{self, RawClient, request_bytes},
    origin::{Origin, Reply},
};
use tokio::process::Command;

use crate::process::Fanfare;

const REQUESTS: usize = 500;

#[tokio::test]
async fn on_a_full_disk_requests_go_on_and_the_entries_are_written_when_there_is_room() {
    let (origin, folder) = (Origin::start(Reply::ok("fine")), tempfile::tempdir().expect("a temporary folder"));
    let script = r#"mount -t tmpfs -o size=512k none "$1" && cd "$1" && shift && exec "$@" > log"#;
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]).arg(folder.path());
    command.args([env!("CARGO_BIN_EXE_fanfare"), "broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0"]);
    command.args(["--threads", "1", "--endpoints", &origin.address().to_string(), "--access-log", "json"]);
    let mut fanfare = Fanfare::spawn(command);
    fanfare.wait_listening().await;
    fanfare.wait_ready().await;
    let disk = Path::new("/proc").join(fanfare.pid().to_string()).join("cwd");
    let mut filler = fs::File::create(disk.join("filler")).expect("there is room for a name");
    while filler.write_all(&[0; 4096]).is_ok() {}
    let mut client = RawClient::connect(fanfare.address()).await;
    for number in 0..REQUESTS {
        client.send(request_bytes("h", "GET", &format!("/{number}"), &[], b"")).await;
        client.read_response("GET").await.complete().expect_status(200);
    }
    let told = "cannot write the access log to standard output";
    fanfare.stderr.wait("the reason", |log| log.contains(told) && log.contains("No space left on device")).await;
    // Its blocks are free when it is closed, too.
    drop(filler);
    fs::remove_file(disk.join("filler")).expect("it is there");
    let log = || fs::read_to_string(disk.join("log")).unwrap_or_default();
    let text = testkit::eventually!("every entry", log(), |text| text.matches('\n').count() >= REQUESTS);
    let targets: HashSet<String> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .filter_map(|entry| entry["target"].as_str().map(str::to_owned))
        .collect();
    assert_eq!((targets.len(), text.lines().count()), (REQUESTS, REQUESTS), "each once");
}

#[tokio::test]
async fn a_client_of_ipv4_has_one_address_also_at_a_listener_of_both_versions() {
    let origin = Origin::start(Reply::ok("fine"));
    let endpoint = origin.address().to_string();
    let fanfare = Fanfare::serve(["broadcast", "-i", "[::]:0", "-m", "127.0.0.1:0", "--endpoints", &endpoint]).await;
    fanfare.wait_ready().await;
    let listener = SocketAddr::from((Ipv4Addr::LOCALHOST, fanfare.address().port()));
    client::get(listener, "/").await.complete().expect_status(200);
    let entry = fanfare.stdout.wait("the entry", |log| log.contains("GET /")).await;
    let client = entry.split(' ').nth(1).and_then(|client| client.parse::<SocketAddr>().ok());
    assert_eq!(client.map(|client| client.ip()), Some(Ipv4Addr::LOCALHOST.into()), "{entry}");
}
