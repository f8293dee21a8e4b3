//! The drain of a mirror whose API servers do not answer.

use controlplane::client::remote::{self, Access as At, Token, Trust, Url};
use runtime::{drain::Drain, readiness::Readiness};

use super::*;
use crate::config::Remote as RemoteConfig;

/// Which of both is seen first, the drain or the end of its workers, is a matter of chance between threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn workers_that_end_because_the_drain_began_are_no_fault() {
    let url = Url::parse("http://127.0.0.1:1").expect("a URL");
    let nowhere = At::Server { url, trust: Trust::System, token: Token::None };
    for round in 0..200 {
        let config =
            Config { remotes: vec![RemoteConfig::new("west", "west", "a=b", "m")], workers: 16, ..Config::default() };
        let connections = Connections {
            local: remote::connect(nowhere.clone()).client,
            remotes: vec![tokio::sync::watch::channel(Err("it is away".to_owned())).1],
            leadership: Leadership::alone(),
            gate: Readiness::new().register("mirror"),
        };
        let mirror = Mirror::new(config, connections).expect("a valid configuration");
        let (health, drain) = (mirror.health(), Drain::new());
        let running = tokio::spawn(mirror.run(drain.watch()));
        tokio::task::yield_now().await;
        drain.start();
        testkit::eventually::within("its end", running).await.expect("it does not panic");
        assert_eq!(health.check(), Ok(()), "round {round}");
    }
}
