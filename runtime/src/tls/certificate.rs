//! The contents of a certificate: its names, its subject, its validity.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// Names of a certificate that are read at most.
const MAX_NAMES: usize = 128;

/// The longest name that is read, in bytes: the limit of a SPIFFE id.
const MAX_NAME: usize = 2048;

/// The longest text of a certificate in a log line or an error, in characters.
const MAX_SHOWN: usize = 128;

/// The facts of a certificate that matter here. Whether it can be trusted is not among them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Certificate {
    /// DNS names in lower case, some with a `*`.
    pub(super) dns: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) uris: Vec<String>,
    /// The common name of the subject.
    pub(super) subject: Option<String>,
    /// The distinguished name of the issuer, for people.
    pub(super) issuer: String,
    /// Seconds since 1970.
    pub(super) not_before: i64,
    /// Seconds since 1970.
    pub(super) not_after: i64,
}

/// When all certificates of a file are valid, in seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) path: PathBuf,
    /// The last beginning.
    pub(super) begins: i64,
    /// The first end.
    pub(super) expires: i64,
}

/// The certificate of a client, signed by an authority of the listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Its DNS names, in lower case.
    pub dns: Vec<String>,
    /// Its URIs, among them SPIFFE ids.
    pub uris: Vec<String>,
    /// The common name of its subject, for logs only, because it need not be unique. Control characters are escaped.
    pub subject: Option<String>,
}

// === impl Certificate ===

impl Certificate {
    /// Reads a certificate.
    pub(super) fn parse(der: &CertificateDer<'_>) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(der).map_err(|error| format!("it cannot be parsed: {error}"))?;
        let mut certificate = Self {
            subject: parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).map(shown),
            issuer: shown(&parsed.issuer().to_string()),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            ..Self::default()
        };
        let names =
            parsed.subject_alternative_name().map_err(|error| format!("its names cannot be parsed: {error}"))?;
        for name in names.iter().flat_map(|names| &names.value.general_names).take(MAX_NAMES) {
            match name {
                GeneralName::DNSName(name) if name.len() <= MAX_NAME => {
                    certificate.dns.push(name.to_ascii_lowercase());
                }
                GeneralName::URI(uri) if uri.len() <= MAX_NAME => certificate.uris.push((*uri).to_owned()),
                GeneralName::IPAddress(bytes) => certificate.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(certificate)
    }

    /// How well it fits a DNS name: 2 by name, 1 by a wildcard, 0 not at all.
    pub(super) fn fits(&self, name: &str) -> u8 {
        // Some clients send the final dot of a DNS name; certificates have none.
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let wildcard = |own: &str| {
            let parent = name.split_once('.').map(|(_, parent)| parent);
            own.strip_prefix("*.").is_some_and(|own| Some(own) == parent)
        };
        if self.dns.contains(&name) { 2 } else { u8::from(self.dns.iter().any(|own| wildcard(own))) }
    }

    /// Its names for people; its subject where it has none.
    pub(super) fn names(&self) -> String {
        let addresses = self.addresses.iter().map(ToString::to_string);
        let names: Vec<String> = self.dns.iter().chain(&self.uris).map(|name| shown(name)).chain(addresses).collect();
        match (names.len(), &self.subject) {
            (0, Some(subject)) => format!("no names (its subject is {subject})"),
            (0, None) => "no names".to_owned(),
            (count @ 9.., _) => format!("{} and {} more", names[..8].join(", "), count - 8),
            _ => names.join(", "),
        }
    }
}

// === impl Validity ===

impl Validity {
    pub(super) fn of(path: &Path, certificates: &[Certificate]) -> Self {
        let begins = certificates.iter().map(|certificate| certificate.not_before).max();
        let expires = certificates.iter().map(|certificate| certificate.not_after).min();
        Self { path: path.to_owned(), begins: begins.unwrap_or(i64::MIN), expires: expires.unwrap_or(i64::MAX) }
    }
}

// === impl PeerCertificate ===

impl PeerCertificate {
    /// What a verified certificate says. It is read again here because a session that is resumed brings its certificate along
    /// without anybody looking at its dates.
    pub(super) fn read(der: &CertificateDer<'_>) -> Result<Self, String> {
        let certificate = Certificate::parse(der)?;
        if certificate.not_after < now() {
            return Err(format!("it has expired at {}", date(certificate.not_after)));
        }
        Ok(Self { dns: certificate.dns, uris: certificate.uris, subject: certificate.subject })
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match *bytes {
        [a, b, c, d] => Some(IpAddr::from([a, b, c, d])),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    }
}

/// Now, in seconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// A moment for people.
pub(super) fn date(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s after 1970"), |at| at.to_string())
}

/// A text of a certificate as it may stand in a log line: printable and not long.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::pem::PemObject as _;
    use testkit::pki::{Authority, Wanted};

    use super::*;

    fn parsed(wanted: &Wanted) -> Certificate {
        let issued = Authority::new("the authority").sign(wanted);
        let der = CertificateDer::from_pem_slice(issued.chain.as_bytes()).expect("a certificate");
        Certificate::parse(&der).expect("it can be parsed")
    }

    #[test]
    fn all_kinds_of_names_are_read() {
        let names = ["A.example", "*.b.example", "10.0.0.1", "::1", "spiffe://domain/ns/shop"];
        let certificate = parsed(&Wanted::names(&names).subject("ci\nrunner"));
        assert_eq!(certificate.dns, ["a.example", "*.b.example"]);
        assert_eq!(certificate.addresses, ["10.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert_eq!(certificate.uris, ["spiffe://domain/ns/shop"]);
        assert_eq!(certificate.subject.as_deref(), Some("ci\\nrunner"));
        assert!(certificate.issuer.contains("the authority"), "{}", certificate.issuer);
    }

    #[test]
    fn a_wildcard_stands_for_exactly_one_label() {
        let certificate = parsed(&Wanted::names(&["a.example", "*.b.example"]));
        for (name, fits) in [
            ("a.example", 2),
            ("A.EXAMPLE", 2),
            ("a.example.", 2),
            ("x.b.example", 1),
            ("x.b.example.", 1),
            ("b.example", 0),
            ("x.y.b.example", 0),
            ("", 0),
        ] {
            assert_eq!(certificate.fits(name), fits, "{name}");
        }
    }

    #[test]
    fn many_and_long_texts_are_cut() {
        let many: Vec<String> = (0..200).map(|n| format!("n{n}.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let certificate = parsed(&Wanted::names(&many).subject(&"x".repeat(1000)));
        assert_eq!(certificate.dns.len(), MAX_NAMES);
        assert!(certificate.names().ends_with(&format!("and {} more", MAX_NAMES - 8)), "{}", certificate.names());
        assert_eq!(certificate.subject.map(|subject| subject.len()), Some(MAX_SHOWN + 3));
    }
}
