//! The fixture of these tests: certificate files, curl as a client, and configuration files.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use testkit::{
    eventually::within,
    packages,
    pki::{Authority, Issued, SecretDir},
};
use tokio::process::Command;

/// A certificate in the files of a Secret, and its authority.
pub(super) struct Pair {
    pub(super) authority: Authority,
    pub(super) secret: SecretDir,
    pub(super) issued: Issued,
}

/// One request by curl.
pub(super) struct Curl {
    arguments: Vec<String>,
    url: String,
}

/// The result of a request.
#[derive(Debug)]
pub(super) struct Got {
    /// The status; 0 without an answer.
    pub(super) status: u16,
    /// `1.1` or `2`.
    pub(super) version: String,
    pub(super) body: String,
    /// The error of curl.
    pub(super) error: String,
}

/// A configuration file in a folder of its own.
pub(super) struct File {
    _folder: TempDir,
    pub(super) path: PathBuf,
}

// === impl Pair ===

impl Pair {
    /// Signed by an authority of its own with this name.
    pub(super) fn of(authority: &str, names: &[&str]) -> Self {
        let authority = Authority::new(authority);
        let issued = authority.issue(names);
        let secret = SecretDir::of(&issued, &authority);
        Self { authority, secret, issued }
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.secret.path(name).display().to_string()
    }

    /// The flags of a listener with this certificate.
    pub(super) fn listener(&self) -> [String; 2] {
        [format!("--tls-cert={}", self.path("tls.crt")), format!("--tls-key={}", self.path("tls.key"))]
    }
}

// === impl Curl ===

impl Curl {
    /// A request with TLS to this address, with this server name.
    pub(super) fn https(name: &str, address: SocketAddr) -> Self {
        let (port, ip) = (address.port(), address.ip());
        let arguments = vec!["--resolve".to_owned(), format!("{name}:{port}:{ip}")];
        Self { arguments, url: format!("https://{name}:{port}/x") }
    }

    /// Trusts only the authority of this pair.
    pub(super) fn trusting(self, pair: &Pair) -> Self {
        self.with(&["--cacert", &pair.path("ca.crt")])
    }

    /// Presents this client certificate.
    pub(super) fn showing(self, pair: &Pair) -> Self {
        self.with(&["--cert", &pair.path("tls.crt"), "--key", &pair.path("tls.key")])
    }

    pub(super) fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    pub(super) async fn get(self) -> Got {
        let curl = packages::program("curl").unwrap_or_else(|why| panic!("{why}"));
        let mut command = Command::new(curl);
        // Independent of the user's own curl settings.
        command.args(["-q", "-sS", "--noproxy", "*", "-w", "\n%{http_code} %{http_version}"]);
        command.args(&self.arguments).arg(&self.url).kill_on_drop(true);
        let output = within("curl", command.output()).await.expect("it can be run");
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, told) = text.rsplit_once('\n').expect("the line that was asked for");
        let (status, version) = told.split_once(' ').expect("two words");
        Got {
            status: status.parse().expect("a status"),
            version: version.to_owned(),
            body: body.to_owned(),
            error: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

// === impl Got ===

impl Got {
    #[track_caller]
    pub(super) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }
}

// === impl File ===

impl File {
    pub(super) fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = Self { path: folder.path().join("fanfare.yaml"), _folder: folder };
        file.write(text);
        file
    }

    /// Replaces it in one step, as editors and Kubernetes do.
    pub(super) fn write(&self, text: &str) {
        let new = self.path.with_extension("new");
        std::fs::write(&new, text).expect("it can be written");
        std::fs::rename(&new, &self.path).expect("it can be renamed");
    }
}

/// All of these.
pub(super) fn strs(flags: &[String]) -> Vec<&str> {
    flags.iter().map(String::as_str).collect()
}

/// A flag that names a file.
pub(super) fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}
