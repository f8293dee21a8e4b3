//! Varnish in the foreground, with a VCL of the test's own.

use std::fs;

use super::{Consumer, installed};

/// Starts Varnish with this VCL, which names its own backend.
///
/// # Panics
/// Where it is not installed or does not come up, with the reason: what is wrong with the VCL, say.
pub async fn varnish(vcl: &str) -> Consumer {
    let program = installed("varnishd");
    Consumer::start(&program, |folder, address| {
        let file = folder.join("default.vcl");
        fs::write(&file, vcl).expect("a temporary file can be written");
        let text = |text: &str| text.to_owned();
        let working = folder.join("varnish").display().to_string();
        // In the foreground, as who started it (a network namespace of a test has no other user), with a small cache in memory
        // and no command line on the network.
        let mut args: Vec<String> = ["-F", "-j", "none", "-s", "malloc,16m", "-T", "none", "-n"].map(text).into();
        args.extend([working, text("-a"), address.to_string(), text("-f"), file.display().to_string()]);
        args
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client,
        origin::{Origin, Reply, Script},
    };

    #[tokio::test]
    async fn it_caches_answers_of_its_backend() {
        let origin = Origin::start(Script::on_request(|_: &_| Reply::ok("fine").header("cache-control", "max-age=60")));
        let (host, port) = (origin.address().ip(), origin.address().port());
        let varnish =
            varnish(&format!("vcl 4.1;\nbackend default {{ .host = \"{host}\"; .port = \"{port}\"; }}\n")).await;
        for _ in 0..3 {
            assert_eq!(client::get(varnish.address(), "/a").await.complete().text(), "fine");
        }
        assert_eq!(origin.requests().len(), 1);
    }
}
