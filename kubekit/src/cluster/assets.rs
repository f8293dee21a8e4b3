//! Where the control plane's binaries come from: built once from Go modules, or given by the user.

use std::{env, path::PathBuf, sync::LazyLock};

use testkit::go::GoBuild;

/// The control plane's executables.
#[derive(Clone, Debug)]
pub struct Assets {
    directory: PathBuf,
}

impl Assets {
    /// Finds the executables, and builds them first where that has not been done for this `go.mod`.
    ///
    /// `KUBEBUILDER_ASSETS`, if set, names a directory that has them already. Otherwise they are built into the
    /// workspace's target directory, under a lock, so that of many test processes one builds and the others wait.
    /// The build needs Go and the Go module proxy, and takes minutes the first time.
    ///
    /// # Errors
    /// A text that says what is missing and how to get it.
    pub fn locate() -> Result<Self, String> {
        // A failure is kept, so that not every test tries again.
        static LOCATED: LazyLock<Result<Assets, String>> = LazyLock::new(Assets::find);
        LOCATED.clone()
    }

    fn find() -> Result<Self, String> {
        let directory = match env::var_os("KUBEBUILDER_ASSETS") {
            Some(directory) => directory.into(),
            None => build()?.directory()?,
        };
        Ok(Self { directory })
    }

    /// The path of one executable.
    ///
    /// # Errors
    /// A text naming the executable where the directory does not have it.
    pub fn executable(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.directory.join(name);
        if path.is_file() {
            return Ok(path);
        }
        Err(format!(
            "{} has no `{name}`: put it there, or unset KUBEBUILDER_ASSETS and it is built from source",
            self.directory.display()
        ))
    }
}

fn build() -> Result<GoBuild, String> {
    let mut build = GoBuild {
        name: "control-plane",
        folder: concat!(env!("CARGO_MANIFEST_DIR"), "/cluster"),
        module_file: "go.mod",
        sources: &[],
        packages: &[
            "go.etcd.io/etcd/server/v3",
            "k8s.io/kubernetes/cmd/kube-apiserver",
            "k8s.io/kubernetes/cmd/kube-controller-manager",
        ],
        renamed: &[("server", "etcd")],
        linked: String::new(),
        what: "etcd, kube-apiserver and kube-controller-manager once (3 to 8 minutes on 2 cores)",
        instead: ", or set KUBEBUILDER_ASSETS to a directory with these three",
    };
    let module = build.read(build.module_file)?;
    let required = module.lines().filter_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "));
    // A comment may follow the version.
    let version = required
        .flat_map(str::split_whitespace)
        .next()
        .ok_or("kubekit/cluster/go.mod does not require k8s.io/kubernetes")?;
    // The version that the API server reports.
    build.linked = format!("-X k8s.io/component-base/version.gitVersion={version}");
    Ok(build)
}
