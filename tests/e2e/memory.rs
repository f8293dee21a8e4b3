//! Memory that is not needed any more goes back to the system.

use std::fs;

use serde_json::{Value, json};

use crate::process::Fanfare;

/// So many that reading the configuration takes some MiB.
const ROUTES: usize = 1000;

/// How much has to come back, in KiB.
const GIVEN_BACK: u64 = 2 << 10;

/// The memory of a process that belongs to no file, in KiB.
fn anonymous(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is running");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a process has memory");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

#[tokio::test]
async fn what_a_start_has_freed_is_given_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let route = |number: usize| {
        let list = folder.path().join(format!("{number}.json"));
        fs::write(&list, json!([{"targets": ["192.0.2.1:80"]}]).to_string()).expect("it can be written");
        json!({"match": {"path": format!("/{number}/*")}, "to": {"file": list}})
    };
    let routes: Vec<Value> = (0..ROUTES).map(route).collect();
    let config =
        json!({"admin": {"listen": "127.0.0.1:0"}, "broadcast": [{"listen": "127.0.0.1:0", "routes": routes}]});
    let path = folder.path().join("fanfare.json");
    fs::write(&path, config.to_string()).expect("it can be written");
    let fanfare = Fanfare::serve(["run".as_ref(), "--config".as_ref(), path.as_os_str()]).await;
    fanfare.wait_ready().await;
    let mut most = 0;
    testkit::eventually!(
        "memory that is given back",
        {
            let now = anonymous(fanfare.pid());
            most = now.max(most);
            most - now
        },
        |given_back| *given_back >= GIVEN_BACK
    );
}
