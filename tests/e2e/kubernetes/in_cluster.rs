//! Without a kubeconfig: the environment and the files that Kubernetes gives to every container.

use std::process::Command;

use kubekit::cluster;

use super::bed::{Bed, hosts, ready, slice, v4};
use crate::process::Fanfare;

/// Mounts the files as in a container, for this process alone, and executes the rest.
const AS_A_CONTAINER: &str = "
set -e
mount -t tmpfs tmpfs /run
mkdir -p /var/run/secrets/kubernetes.io/serviceaccount
cd /var/run/secrets/kubernetes.io/serviceaccount
printf %s \"$TOKEN\" > token
printf %s default > namespace
cat \"$CA\" > ca.crt
unset TOKEN CA
exec \"$@\"
";

#[test]
fn in_a_container_the_mounted_service_account_is_used() {
    cluster::inside(testkit::test_name!(), async || {
        let mut bed = Bed::start().await;
        bed.listen([v4(1, 8080), v4(2, 8080)]);
        bed.apply(&slice("cache-1", "cache", &ready(&[1]), "{port: 8080}")).await;
        let kubeconfig = std::fs::read_to_string(bed.account.kubeconfig_path()).expect("it can be read");
        let kubeconfig: serde_json::Value = serde_json::from_str(&kubeconfig).expect("it is written as JSON");
        let text = |pointer: &str| kubeconfig.pointer(pointer).and_then(|value| value.as_str()).expect("it is there");

        let mut container = Command::new("unshare");
        container.args(["--mount", "--", "sh", "-c", AS_A_CONTAINER, "sh", env!("CARGO_BIN_EXE_fanfare")]);
        container.args([
            "broadcast",
            "-i",
            "127.0.0.1:0",
            "-m",
            "127.0.0.1:0",
            "--threads",
            "2",
            "-s",
            "default/cache",
        ]);
        container.env("TOKEN", text("/users/0/user/token"));
        container.env("CA", text("/clusters/0/cluster/certificate-authority"));
        container.env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
        container.env("KUBERNETES_SERVICE_PORT", bed.cluster.api_port().to_string()).env_remove("KUBECONFIG");
        let mut fanfare = Fanfare::spawn(container.into());
        fanfare.wait_listening().await;
        fanfare.wait_ready().await;
        assert_eq!(bed.reached(&fanfare).await, hosts(&[1]));
        bed.apply(&slice("cache-1", "cache", &ready(&[1, 2]), "{port: 8080}")).await;
        bed.until_reached(&fanfare, &hosts(&[1, 2])).await;
    });
}
