//! helm, which lints and renders the chart.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::LazyLock,
};

use tempfile::TempDir;

use crate::go::GoBuild;

/// The linker flags of its releases: its version, and the version of Kubernetes that it assumes without a cluster.
const LINKED: &str = "-X helm.sh/helm/v3/internal/version.version=v3.22.0 \
    -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor=37 \
    -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=37";

/// Runs helm with these arguments and returns what it writes to its standard output. It has a home of its own, an empty one.
///
/// # Errors
/// All that it wrote, where it failed.
///
/// # Panics
/// Where it cannot be built or started.
pub fn helm(args: &[&str]) -> Result<String, String> {
    let program = build().unwrap_or_else(|e| panic!("{e}"));
    let home = TempDir::new().expect("a temporary folder can be made");
    let folder = |name: &str| home.path().join(name);
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).env("HELM_CONFIG_HOME", folder("config"));
    command.env("HELM_CACHE_HOME", folder("cache")).env("HELM_DATA_HOME", folder("data"));
    // What is rendered must not depend on a cluster that this user can reach.
    command.env("KUBECONFIG", folder("none"));
    let output = command.output().unwrap_or_else(|e| panic!("{command:?} cannot be run: {e}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("helm {args:?} ({}): {}{}", output.status, text(&output.stdout), text(&output.stderr)))
}

/// Renders a chart for a release: the manifests, as one text.
///
/// # Errors
/// What helm says, where it refuses the values, for example.
///
/// # Panics
/// As [`helm`].
pub fn template(chart: &Path, release: &str, namespace: &str, further: &[&str]) -> Result<String, String> {
    let chart = chart.to_str().expect("a path of the repository is UTF-8");
    let mut args = vec!["template", release, chart, "--namespace", namespace];
    args.extend(further);
    helm(&args)
}

/// Its program, built if need be.
///
/// # Errors
/// Why it cannot be built, and what to do about it.
pub fn build() -> Result<PathBuf, String> {
    // What has failed once in this process is not tried again by every test.
    static BUILT: LazyLock<Result<PathBuf, String>> = LazyLock::new(|| {
        let build = GoBuild {
            name: "helm",
            folder: concat!(env!("CARGO_MANIFEST_DIR"), "/helm"),
            module_file: "go.mod",
            sources: &[],
            packages: &["helm.sh/helm/v3/cmd/helm"],
            renamed: &[],
            linked: LINKED.to_owned(),
            what: "helm once (1 to 3 minutes on 2 cores)",
            instead: "",
        };
        build.directory().map(|directory| directory.join("helm"))
    });
    BUILT.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_the_version_that_its_module_has() {
        let said = helm(&["version", "--template", "{{.Version}}"]).unwrap_or_else(|said| panic!("{said}"));
        let module = include_str!("../helm/go.mod");
        assert!(module.contains(&format!("helm.sh/helm/v3 {said} ")), "{said}");
    }
}
