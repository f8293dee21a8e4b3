//! The configured access to an API server, before its files are read.

use std::{env, ffi::OsStr, fmt, path::PathBuf};

use runtime::redact;
use serde::{Serialize, Serializer};

/// How an API server is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// By a kubeconfig.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The context; by default the current one.
        context: Option<String>,
    },
    /// By several kubeconfigs, merged: those of `$KUBECONFIG`. Missing files are left out.
    Kubeconfigs {
        /// The files.
        paths: Vec<PathBuf>,
        /// One of their contexts; the current one where none is given.
        context: Option<String>,
    },
    /// By the service account of the pod, at the API server of its own cluster.
    Pod,
    /// At this address.
    Server {
        /// The API server's URL.
        url: Url,
        /// How its certificate is verified.
        trust: Trust,
        /// The credentials of the requests.
        token: Token,
    },
}

/// How the API server's certificate is verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trust {
    /// By the certificates of the system.
    System,
    /// By the certificates in a file (PEM).
    File(PathBuf),
    /// By the certificates that a URL answers with (PEM).
    Url {
        /// The URL, which is `https` so that its server is verified too.
        url: Url,
        /// The certificates by which that server is verified, as a file (PEM); by default those of the system.
        vouched_by: Option<PathBuf>,
    },
}

/// The credentials of requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Token {
    /// None: requests are anonymous.
    None,
    /// The token in this file.
    File(PathBuf),
    /// The token in this environment variable.
    Variable(String),
    /// This token.
    Given(Secret),
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// An environment variable has no token in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("${name} should have the token for {url}, and is empty")]
pub struct UnsetVariable {
    name: String,
    url: String,
}

/// The URL of a server: `https://host[:port][/path]`, or `http` where that is permitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(hyper::Uri);

/// Why a text is not the URL of a server. Credentials in it are not shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It cannot be understood.
    #[error("{0:?} is not the URL of a server: write https://host:port")]
    Unreadable(String),
    /// It has no scheme.
    #[error("{0:?} has no scheme: write https://{0}")]
    NoScheme(String),
    /// Its server would not be verified.
    #[error("{0:?} does not begin with https://, so its server would not be verified")]
    Unprotected(String),
}

// === impl Access ===

impl Access {
    /// How this process reaches its own cluster, in the order of kubectl: the given kubeconfig, those that `$KUBECONFIG` names,
    /// `~/.kube/config` if it is there, or the pod's service account.
    pub(super) fn of_process(kubeconfig: Option<PathBuf>, context: Option<String>) -> Self {
        let named = env::var_os("KUBECONFIG").unwrap_or_default();
        let home =
            env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(".kube/config"));
        Self::of(kubeconfig, &named, home, context)
    }

    fn of(kubeconfig: Option<PathBuf>, named: &OsStr, home: Option<PathBuf>, context: Option<String>) -> Self {
        if let Some(path) = kubeconfig {
            return Self::Kubeconfig { path, context };
        }
        let paths: Vec<PathBuf> = env::split_paths(named).filter(|path| !path.as_os_str().is_empty()).collect();
        match home {
            _ if !paths.is_empty() => Self::Kubeconfigs { paths, context },
            // A context is part of a kubeconfig: where there is none, that is what is told.
            Some(path) if context.is_some() || path.exists() => Self::Kubeconfig { path, context },
            _ => Self::Pod,
        }
    }

    /// The same with the token itself in place of the environment variable that has it.
    ///
    /// # Errors
    /// [`UnsetVariable`] if the variable does not exist or is empty.
    pub fn resolve(self) -> Result<Self, UnsetVariable> {
        match self {
            Self::Server { url, trust, token: Token::Variable(name) } => {
                let token = Token::Given(Secret::of_variable(&name, &url)?);
                Ok(Self::Server { url, trust, token })
            }
            resolved => Ok(resolved),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubeconfig { path, context: None } => write!(f, "kubeconfig {}", path.display()),
            Self::Kubeconfig { path, context: Some(context) } => {
                write!(f, "kubeconfig {} (context {context})", path.display())
            }
            Self::Kubeconfigs { paths, .. } => {
                let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                write!(f, "kubeconfigs of $KUBECONFIG ({})", paths.join(", "))
            }
            Self::Pod => f.write_str("service account of the pod"),
            Self::Server { url, .. } => url.fmt(f),
        }
    }
}

// === impl Url ===

impl Url {
    /// Reads the URL of an API server. `http` is permitted, for a proxy beside this process.
    ///
    /// # Errors
    /// [`UrlError::Unreadable`] and [`UrlError::NoScheme`].
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let text = text.trim();
        let unreadable = || {
            let bare = text.rsplit_once('@').filter(|_| !text.contains("://"));
            let shown = bare.map_or_else(|| redact::urls(text), |(_, host)| format!("{}@{host}", redact::HIDDEN));
            UrlError::Unreadable(shown)
        };
        if !text.contains("://") {
            let with_scheme = format!("https://{text}");
            let server = Self::parse(&with_scheme).is_ok();
            return Err(if server { UrlError::NoScheme(text.to_owned()) } else { unreadable() });
        }
        let uri: hyper::Uri = text.parse().map_err(|_| unreadable())?;
        let known = matches!(uri.scheme_str(), Some("https" | "http"));
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let port = authority.rsplit_once(':').map(|(_, port)| port).filter(|port| !port.ends_with(']'));
        let plain = uri.query().is_none() && !authority.contains('@');
        let plain = plain && port.is_none_or(|port| port.parse::<u16>().is_ok());
        if known && plain && uri.host().is_some_and(|host| !host.is_empty()) {
            Ok(Self(uri))
        } else {
            Err(unreadable())
        }
    }

    /// Reads a URL that must be `https`.
    ///
    /// # Errors
    /// [`UrlError`].
    pub fn parse_protected(text: &str) -> Result<Self, UrlError> {
        let url = Self::parse(text)?;
        if url.0.scheme_str() == Some("https") { Ok(url) } else { Err(UrlError::Unprotected(text.to_owned())) }
    }

    pub(super) fn uri(&self) -> &hyper::Uri {
        &self.0
    }
}

impl From<hyper::Uri> for Url {
    fn from(uri: hyper::Uri) -> Self {
        Self(uri)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Url {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Secret ===

impl Secret {
    /// Hides a text. Spaces and line ends around it are not part of it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The token in an environment variable.
    pub(super) fn of_variable(name: &str, url: &Url) -> Result<Self, UnsetVariable> {
        let token = Self::new(&env::var(name).unwrap_or_default());
        let unset = || UnsetVariable { name: name.to_owned(), url: url.to_string() };
        if token.0.is_empty() { Err(unset()) } else { Ok(token) }
    }

    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(redact::HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(redact::HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_that_of_a_server() {
        for url in ["https://10.0.0.1:6443", "http://localhost:8001", "https://[2001:db8::1]/k8s/clusters/c-1"] {
            assert_eq!(Url::parse(url).expect(url).to_string().trim_end_matches('/'), url);
        }
        for text in [
            "",
            "ftp://x",
            "https://",
            "https://host/?a=b",
            "/x",
            "https://a b",
            "://",
            "https://host:65536",
            "https://host:",
        ] {
            assert_eq!(Url::parse(text), Err(UrlError::Unreadable(text.into())), "{text}");
        }
        for text in ["10.0.0.1:6443", "host", "localhost:8080/path"] {
            assert_eq!(Url::parse(text), Err(UrlError::NoScheme(text.into())), "{text}");
        }
        assert!(matches!(Url::parse_protected("http://ca.example"), Err(UrlError::Unprotected(_))));
    }

    #[test]
    fn a_kubeconfig_is_looked_for_where_kubectl_looks() {
        let home = tempfile::tempdir().expect("a temporary folder");
        let file = home.path().join("config");
        let (path, context) = (PathBuf::from("/given"), Some("west".to_owned()));
        let none = OsStr::new("");
        let of = |kubeconfig: Option<&PathBuf>, named: &OsStr, context: &Option<String>| {
            Access::of(kubeconfig.cloned(), named, Some(file.clone()), context.clone())
        };
        let by_file = |path: &PathBuf, context: &Option<String>| Access::Kubeconfig {
            path: path.clone(),
            context: context.clone(),
        };
        assert_eq!(of(Some(&path), OsStr::new("/a:/b"), &context), by_file(&path, &context));
        let several = Access::Kubeconfigs { paths: vec!["/a".into(), "/b".into()], context: context.clone() };
        assert_eq!(of(None, OsStr::new("/a::/b"), &context), several);
        assert_eq!(of(None, none, &None), Access::Pod);
        assert_eq!(of(None, none, &context), by_file(&file, &context), "a pod has no contexts");
        std::fs::write(&file, "").expect("it can be written");
        assert_eq!(of(None, none, &None), by_file(&file, &None));
        assert_eq!(Access::of(None, none, None, None), Access::Pod);
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_shown() {
        let error = Url::parse("https://user:s3cret@host").expect_err("that is not how one logs in").to_string();
        assert!(error.contains("https://user:***@host") && !error.contains("s3cret"), "{error}");
        let error = Url::parse("user:s3cret@host").expect_err("neither is that").to_string();
        assert!(!error.contains("s3cret"), "{error}");
    }
}
