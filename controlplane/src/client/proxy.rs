//! The proxy for a server: that of the kubeconfig or of the environment, unless `NO_PROXY` covers the server.

use std::{env, fmt, net::IpAddr};

use hyper::Uri;
use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use runtime::redact;

/// A proxy. Its credentials are never shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) kind: ProxyKind,
    /// Scheme, host and port; nothing else.
    pub(super) address: Uri,
    pub(super) credentials: Option<Credentials>,
}

/// The protocol of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProxyKind {
    /// With the method CONNECT (RFC 9110, section 9.3.6).
    Http,
    /// With CONNECT over TLS.
    Https,
    /// With SOCKS 5 (RFC 1928). Names are resolved by the proxy.
    Socks5,
}

/// The credentials for the proxy.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

/// The proxies that the environment names.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Environment {
    /// For servers with TLS: `HTTPS_PROXY`.
    pub(super) https: Option<String>,
    /// For those without: `HTTP_PROXY`.
    pub(super) http: Option<String>,
    /// Hosts that are reached directly: `NO_PROXY`.
    pub(super) no: String,
}

/// Why a proxy cannot be used. Its URL may have a password in it and is not shown.
#[derive(Debug, thiserror::Error)]
#[error("the proxy that {origin} names cannot be used: {why}")]
pub struct ProxyError {
    origin: &'static str,
    why: &'static str,
}

/// One entry of `NO_PROXY`.
enum Exempt {
    Everything,
    Network(IpNet),
    Host {
        name: String,
        /// Whether the host itself is exempt, besides those below it.
        itself: bool,
        port: Option<u16>,
    },
}

// === impl Environment ===

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { https, http, no } = self;
        let (https, http) = (https.as_deref().map(redact::urls), http.as_deref().map(redact::urls));
        f.debug_struct("Environment").field("https", &https).field("http", &http).field("no", no).finish()
    }
}

impl Environment {
    /// The environment of this process. Each variable may be in upper or lower case, as in other programs.
    pub(super) fn of_process() -> Self {
        let either = |upper: &str, lower: &str| {
            let given = [upper, lower].into_iter().filter_map(|name| env::var(name).ok());
            given.map(|value| value.trim().to_owned()).find(|value| !value.is_empty())
        };
        // In a CGI program HTTP_PROXY is ignored, because a request sets it by the header field `Proxy`.
        let cgi = env::var_os("REQUEST_METHOD").is_some();
        Self {
            https: either("HTTPS_PROXY", "https_proxy"),
            http: either("HTTP_PROXY", "http_proxy").filter(|_| !cgi),
            no: either("NO_PROXY", "no_proxy").unwrap_or_default(),
        }
    }

    /// The proxy for this server; `named` is the proxy of its kubeconfig.
    pub(super) fn proxy(&self, server: &Uri, named: Option<&str>) -> Result<Option<Proxy>, ProxyError> {
        let named = named.map(str::trim).filter(|named| !named.is_empty());
        let (origin, url) = match (named, server.scheme_str()) {
            (Some(url), _) => ("proxy-url", url),
            (None, Some("https")) => ("$HTTPS_PROXY", self.https.as_deref().unwrap_or_default()),
            (None, _) => ("$HTTP_PROXY", self.http.as_deref().unwrap_or_default()),
        };
        // Checked first, so that a proxy that is not used may be invalid.
        if url.is_empty() || self.exempts(server) {
            return Ok(None);
        }
        Proxy::parse(url).map(Some).map_err(|why| ProxyError { origin, why })
    }

    fn exempts(&self, server: &Uri) -> bool {
        let host = server.host().unwrap_or_default().trim_start_matches('[').trim_end_matches([']', '.']);
        let host = host.to_ascii_lowercase();
        let address = host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
        let port = server.port_u16().or(match server.scheme_str() {
            Some("http") => Some(80),
            _ => Some(443),
        });
        let entries = self.no.split([',', ' ', '\t', '\n']).map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(Exempt::parse).any(|exempt| exempt.covers(&host, address, port))
    }
}

// === impl Exempt ===

impl Exempt {
    /// As Go and kubectl read it: an address, a network, a name including all names below it, `.name` or `*.name` for only those
    /// below it, each with an optional port; or `*`.
    fn parse(entry: &str) -> Self {
        if entry == "*" {
            return Self::Everything;
        }
        if let Some(network) = access::network::parse(entry).filter(|_| entry.contains('/')) {
            return Self::Network(network);
        }
        let bare = entry.parse::<IpAddr>().is_ok();
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) if !bare && port.parse::<u16>().is_ok() => (name, port.parse().ok()),
            _ => (entry, None),
        };
        let name = name.trim_start_matches('[').trim_end_matches([']', '.']).to_ascii_lowercase();
        let below = name.strip_prefix('*').unwrap_or(&name).strip_prefix('.');
        Self::Host { itself: below.is_none(), name: below.unwrap_or(&name).to_owned(), port }
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: Option<u16>) -> bool {
        match self {
            Self::Everything => true,
            Self::Network(network) => address.is_some_and(|address| network.contains(&address)),
            Self::Host { port: Some(only), .. } if Some(*only) != port => false,
            Self::Host { name, itself, .. } => match (address, name.parse::<IpAddr>()) {
                (Some(address), Ok(exempt)) => address == exempt.to_canonical(),
                (Some(_), Err(_)) | (None, Ok(_)) => false,
                (None, Err(_)) => {
                    let below = host.strip_suffix(name.as_str()).is_some_and(|before| before.ends_with('.'));
                    below || (*itself && host == name)
                }
            },
        }
    }
}

// === impl Proxy ===

impl Proxy {
    /// Reads its URL; without a scheme it is `http`.
    fn parse(url: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let (kind, default_port) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (ProxyKind::Http, 80),
            "https" => (ProxyKind::Https, 443),
            "socks5" | "socks5h" => (ProxyKind::Socks5, 1080),
            _ => return Err("write http://host:port, https://host:port or socks5://host:port"),
        };
        let (userinfo, host) = match rest.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, rest),
        };
        let host = &host[..host.find(['/', '?', '#']).unwrap_or(host.len())];
        let unreadable = "its address cannot be read: write http://host:port";
        let address: Uri = format!("http://{host}/").parse().map_err(|_| unreadable)?;
        let name = address.host().filter(|name| !name.is_empty()).ok_or(unreadable)?;
        let port = match host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
            Some((_, port)) => port.parse::<u16>().map_err(|_| unreadable)?,
            None => default_port,
        };
        let scheme = if kind == ProxyKind::Https { "https" } else { "http" };
        let address = format!("{scheme}://{name}:{port}/").parse().map_err(|_| unreadable)?;
        let credentials = userinfo.map(Credentials::parse).transpose()?;
        if let (ProxyKind::Socks5, Some(Credentials { user, password })) = (kind, &credentials)
            && (user.len() > 255 || password.len() > 255)
        {
            return Err("a user and a password for SOCKS 5 have at most 255 bytes each");
        }
        Ok(Self { kind, address, credentials })
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Http => "http",
            ProxyKind::Https => "https",
            ProxyKind::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", self.address.authority().map_or("", |authority| authority.as_str()))
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Credentials {
    fn parse(userinfo: &str) -> Result<Self, &'static str> {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        let decode = |text: &str| percent_decode_str(text).decode_utf8().map(String::from);
        let unreadable = |_| "its user or password is not UTF-8";
        Ok(Self { user: decode(user).map_err(unreadable)?, password: decode(password).map_err(unreadable)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(no: &str) -> Environment {
        Environment {
            https: Some("http://for-tls:3128".into()),
            http: Some("socks5://for-plain".into()),
            no: no.to_owned(),
        }
    }

    fn proxy(environment: &Environment, server: &str, named: Option<&str>) -> Option<String> {
        let server = server.parse().expect("a URL");
        environment.proxy(&server, named).expect("it can be used").map(|proxy| proxy.to_string())
    }

    #[test]
    fn the_kubeconfig_outranks_the_environment_which_goes_by_the_scheme() {
        let all = environment("");
        assert_eq!(proxy(&all, "https://a", None).as_deref(), Some("http://for-tls:3128"));
        assert_eq!(proxy(&all, "http://a", None).as_deref(), Some("socks5://for-plain:1080"));
        assert_eq!(proxy(&all, "https://a", Some("socks5://own:1")).as_deref(), Some("socks5://own:1"));
        assert_eq!(proxy(&all, "https://a", Some("HTTPS://own/")).as_deref(), Some("https://own:443"));
        assert_eq!(proxy(&all, "https://a", Some(" ")).as_deref(), Some("http://for-tls:3128"), "empty is none");
        assert_eq!(proxy(&Environment::default(), "https://a", None), None);
    }

    #[test]
    fn servers_in_no_proxy_are_reached_directly() {
        for (no, server, exempt) in [
            ("*", "https://a.example", true),
            ("a.example", "https://a.example", true),
            ("A.Example", "https://a.example.", true),
            ("example", "https://a.example:6443", true),
            ("ple", "https://a.example", false),
            (".example", "https://a.example", true),
            ("*.example", "https://a.example", true),
            (".a.example", "https://a.example", false),
            ("b.example, a.example", "https://a.example", true),
            ("b.example a.example", "https://a.example", true),
            ("a.example:6443", "https://a.example:6443", true),
            ("a.example:6443", "https://a.example", false),
            ("a.example:443", "https://a.example", true),
            ("10.0.0.0/8", "https://10.1.2.3:6443", true),
            ("10.0.0.0/8", "https://11.1.2.3", false),
            ("10.0.0.0/8", "https://10.example", false),
            ("127.0.0.1", "https://127.0.0.1:6443", true),
            ("127.0.0.1:6443", "https://127.0.0.1:6443", true),
            ("127.0.0.1:6443", "https://127.0.0.1:6444", false),
            ("0.0.1", "https://127.0.0.1", false),
            ("2001:db8::1", "https://[2001:db8::1]:6443", true),
            ("[2001:db8::1]:6443", "https://[2001:db8::1]:6443", true),
            ("2001:db8::/32", "https://[2001:db8::1]", true),
            ("fd00::/8", "https://[2001:db8::1]", false),
            ("127.0.0.1", "https://[::ffff:127.0.0.1]", true),
            ("", "https://a.example", false),
            (",, ,", "https://a.example", false),
        ] {
            let environment = environment(no);
            for named in [None, Some("http://own")] {
                let without = proxy(&environment, server, named).is_none();
                assert_eq!(without, exempt, "NO_PROXY={no} {server} {named:?}");
            }
        }
    }

    #[test]
    fn credentials_are_read_and_never_shown() {
        let proxy = Proxy::parse("http://user:s3%40cret%2F@host:3128/path").expect("a proxy");
        let Credentials { user, password } = proxy.credentials.clone().expect("there are");
        assert_eq!((user.as_str(), password.as_str()), ("user", "s3@cret/"));
        assert_eq!((proxy.to_string(), format!("{proxy:?}")), ("http://host:3128".into(), "http://host:3128".into()));
        let raw = Proxy::parse("user:p@ss@host").expect("a proxy");
        assert_eq!(
            (raw.to_string(), raw.credentials.expect("there are").password),
            ("http://host:80".into(), "p@ss".into())
        );
        for text in [
            "https://u:s3cret@h:x",
            "ftp://u:s3cret@h",
            "http://u:s3cret@h:x",
            "http://u:s3cret@",
            "http://u:s3cret@a b",
        ] {
            let environment = Environment { https: Some(text.into()), ..Environment::default() };
            let error = environment.proxy(&"https://a".parse().expect("a URL"), None).expect_err(text).to_string();
            assert!(error.contains("$HTTPS_PROXY") && !error.contains("s3cret"), "{error}");
        }
        // A proxy that is not used may be invalid.
        let unused = Environment { https: Some("ftp://u:p@h".into()), no: "a".into(), http: None };
        assert!(unused.proxy(&"https://a".parse().expect("a URL"), None).is_ok_and(|proxy| proxy.is_none()));
    }
}
