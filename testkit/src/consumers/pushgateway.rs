//! Pushgateway, which keeps what it was given in a file.

use super::{Consumer, installed};

/// Starts a Pushgateway. `PUT /metrics/job/<job>` takes metrics, `/metrics` and `/api/v1/metrics` tell which it has.
///
/// # Panics
/// Where it is not installed or does not come up, with the reason.
pub async fn pushgateway() -> Consumer {
    let program = installed("prometheus-pushgateway");
    Consumer::start(&program, |folder, address| {
        vec![
            format!("--web.listen-address={address}"),
            format!("--persistence.file={}", folder.join("metrics").display()),
            // So short that whoever ends it right after a push finds it again.
            "--persistence.interval=1ms".to_owned(),
        ]
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client;

    #[tokio::test]
    async fn it_has_its_metrics_again_after_it_was_ended() {
        let mut gateway = pushgateway().await;
        client::request(gateway.address(), "PUT", "/metrics/job/a", &[], b"b 7\n").await.complete().expect_status(200);
        gateway.stop().await;
        gateway.start_again().await;
        let metrics = client::get(gateway.address(), "/metrics").await.complete().text();
        assert!(metrics.contains("\nb{instance=\"\",job=\"a\"} 7\n"), "{metrics}");
    }
}
