//! Signals other than SIGTERM and SIGINT: no role ends without a drain, whatever people send it out of habit from other servers.

use rustix::process::Signal;
use serde_json::json;
use testkit::{
    client::{self, RawClient, request_bytes},
    origin::{At, Gate, Origin, Reply},
};

use crate::{process::Fanfare, roles};

async fn is_healthy(fanfare: &Fanfare) -> bool {
    client::get(fanfare.admin(), "/-/healthy").await.text() == "OK"
}

#[tokio::test]
async fn no_role_ends_by_a_signal_of_another_meaning_and_quit_is_a_drain() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let kubeconfig = roles::kubeconfig(folder.path(), &json!({"token": "t"}));
    let to = folder.path().join("out.yaml").display().to_string();
    let file = folder.path().join("fanfare.yaml");
    let text = json!({
        "admin": {"listen": "127.0.0.1:0"},
        "kubernetes": {"kubeconfig": kubeconfig},
        "discover": [{"name": "d", "select": {"labels": "a=b"}, "to": [to]}],
    });
    std::fs::write(&file, text.to_string()).expect("it can be written");
    let file = file.display().to_string();
    let run = ["run", "--config", &file].map(str::to_owned).to_vec();
    let roles = roles::with_kubernetes(&kubeconfig, &to).into_iter().map(|(_, arguments)| arguments);
    for arguments in roles.chain([run]) {
        let fanfare = Fanfare::start(&arguments);
        fanfare.stderr.wait("it to run", |log| log.contains("listening on http")).await;
        for (signal, name) in [(Signal::USR1, "SIGUSR1"), (Signal::USR2, "SIGUSR2")] {
            fanfare.signal(signal);
            let is_told = |log: &str| log.lines().any(|line| line.contains("signal ignored") && line.contains(name));
            fanfare.stderr.wait(name, is_told).await;
        }
        for signal in [Signal::HUP, Signal::PIPE, Signal::XFSZ] {
            fanfare.signal(signal);
        }
        fanfare.stderr.wait("SIGHUP", |log| log.contains("SIGHUP")).await;
        fanfare.signal(Signal::QUIT);
        let finished = fanfare.finish().await;
        assert_eq!(finished.code, Some(0), "{arguments:?}: {}", finished.stderr);
        assert!(finished.stderr.contains("SIGQUIT") && finished.stderr.contains("drained"), "{}", finished.stderr);
    }
}

#[tokio::test]
async fn a_request_in_flight_survives_them_and_is_finished_after_quit() {
    let gate = Gate::new();
    let origin = Origin::start(Reply::ok("finished").hold_at(At::Start, &gate));
    let fanfare = Fanfare::broadcast(&[origin.address()], &[]).await;
    fanfare.wait_ready().await;
    let mut client = RawClient::connect(fanfare.address()).await;
    client.send(request_bytes("h", "POST", "/", &[], b"body")).await;
    origin.wait_requests(1).await;
    for signal in [Signal::USR1, Signal::USR2, Signal::PIPE, Signal::XFSZ, Signal::HUP] {
        fanfare.signal(signal);
    }
    fanfare.stderr.wait("the last of them", |log| log.contains("SIGHUP")).await;
    assert!(is_healthy(&fanfare).await);
    fanfare.signal(Signal::QUIT);
    let ready = async || client::get(fanfare.admin(), "/-/ready").await.status;
    testkit::eventually!("the drain to begin", ready().await, |status| *status == 503);
    gate.release();
    assert_eq!(client.read_response("POST").await.complete().text(), "finished");
    let finished = fanfare.finish().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}
