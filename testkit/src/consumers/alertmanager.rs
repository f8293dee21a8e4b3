//! Alertmanager, alone and without a cluster of its own.

use std::fs;

use super::{Consumer, installed};

/// Starts Alertmanager with this configuration. `/api/v2/alerts` takes alerts and tells which it knows.
///
/// # Panics
/// Where it is not installed or does not come up, with the reason.
pub async fn alertmanager(config: &str) -> Consumer {
    let program = installed("prometheus-alertmanager");
    Consumer::start(&program, |folder, address| {
        let file = folder.join("alertmanager.yml");
        fs::write(&file, config).expect("a temporary file can be written");
        vec![
            format!("--config.file={}", file.display()),
            format!("--storage.path={}", folder.join("data").display()),
            format!("--web.listen-address={address}"),
            // Empty: it gossips with nobody.
            "--cluster.listen-address=".to_owned(),
        ]
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client;

    #[tokio::test]
    async fn it_comes_up_and_knows_no_alert() {
        let alertmanager = alertmanager("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n").await;
        let alerts = client::get(alertmanager.address(), "/api/v2/alerts").await.complete().text();
        assert_eq!(alerts, "[]\n");
    }
}
