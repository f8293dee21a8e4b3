//! The name that an endpoint's certificate must have.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use rustls::pki_types::ServerName;

use super::certificate::Certificate;

/// The facts about an endpoint from which its name is built.
#[derive(Debug, Clone, Copy, Default)]
pub struct Named<'a> {
    /// The name of its pod.
    pub pod: Option<&'a str>,
    /// The name of its Service.
    pub service: Option<&'a str>,
    /// The namespace of its Service.
    pub namespace: Option<&'a str>,
    /// The host name under which a list, a file or the DNS has it.
    pub host: Option<&'a str>,
    /// Its address.
    pub address: Option<IpAddr>,
}

/// A name in which `{pod}`, `{service}` and `{namespace}` stand for those of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameTemplate(Vec<NamePart>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum NamePart {
    Text(String),
    Pod,
    Service,
    Namespace,
}

/// A name that must be in the certificate of an endpoint, instead of the name by which it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum San {
    /// A DNS name, in lower case.
    Dns(String),
    /// A URI, such as a SPIFFE id.
    Uri(String),
    /// An address.
    Address(IpAddr),
}

/// Why there is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The template has an unknown placeholder.
    #[error("there is no placeholder {{{0}}}: use {{pod}}, {{service}} or {{namespace}}")]
    Placeholder(String),
    /// The endpoint has nothing that could be filled in.
    #[error("the endpoint has no {0} to fill in for {{{0}}}: give a name without it")]
    Missing(&'static str),
    /// It is no name.
    #[error("{0:?} is neither a DNS name nor an address")]
    Invalid(String),
    /// Nothing is known of the endpoint.
    #[error("the endpoint has neither a name nor an address")]
    Nothing,
}

// === impl NameTemplate ===

impl FromStr for NameTemplate {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            let (name, behind) = after.split_once('}').ok_or_else(|| NameError::Invalid(text.to_owned()))?;
            parts.push(NamePart::Text(before.to_owned()));
            parts.push(match name {
                "pod" => NamePart::Pod,
                "service" => NamePart::Service,
                "namespace" => NamePart::Namespace,
                other => return Err(NameError::Placeholder(other.to_owned())),
            });
            rest = behind;
        }
        parts.push(NamePart::Text(rest.to_owned()));
        let template = Self(parts);
        // With any names in their places it must be a name.
        template.fill(&Named { pod: Some("a"), service: Some("a"), namespace: Some("a"), ..Named::default() })?;
        Ok(template)
    }
}

impl NameTemplate {
    /// The name of an endpoint.
    ///
    /// # Errors
    /// The endpoint lacks what is to be filled in, or what comes out is no name.
    pub fn fill(&self, named: &Named<'_>) -> Result<ServerName<'static>, NameError> {
        let mut name = String::new();
        for part in &self.0 {
            name.push_str(match part {
                NamePart::Text(text) => text,
                NamePart::Pod => named.pod.ok_or(NameError::Missing("pod"))?,
                NamePart::Service => named.service.ok_or(NameError::Missing("service"))?,
                NamePart::Namespace => named.namespace.ok_or(NameError::Missing("namespace"))?,
            });
        }
        server_name(&name)
    }
}

impl serde::Serialize for NameTemplate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for NameTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            NamePart::Text(text) => f.write_str(text),
            NamePart::Pod => f.write_str("{pod}"),
            NamePart::Service => f.write_str("{service}"),
            NamePart::Namespace => f.write_str("{namespace}"),
        })
    }
}

/// The name of an endpoint for which none is configured: `<service>.<namespace>.svc` where it is one of a Service, else its
/// host name, else its address.
///
/// # Errors
/// Nothing is known of it, or its host name is no DNS name.
pub fn default_name(named: &Named<'_>) -> Result<ServerName<'static>, NameError> {
    match (named.service, named.namespace, named.host, named.address) {
        (Some(service), Some(namespace), ..) => server_name(&format!("{service}.{namespace}.svc")),
        (_, _, Some(host), _) => server_name(host),
        (.., Some(address)) => Ok(ServerName::IpAddress(address.to_canonical().into())),
        _ => Err(NameError::Nothing),
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, NameError> {
    // The final dot of a DNS name is for resolvers; certificates have none.
    let name = name.strip_suffix('.').unwrap_or(name);
    ServerName::try_from(name.to_owned()).map_err(|_| NameError::Invalid(name.to_owned()))
}

// === impl San ===

impl FromStr for San {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.contains("://") {
            return match text.is_ascii() && !text.contains(char::is_whitespace) {
                true => Ok(Self::Uri(text.to_owned())),
                false => Err(NameError::Invalid(text.to_owned())),
            };
        }
        match server_name(text)? {
            ServerName::IpAddress(address) => Ok(Self::Address(address.into())),
            name => Ok(Self::Dns(name.to_str().to_ascii_lowercase())),
        }
    }
}

impl San {
    /// Whether the certificate has exactly this name; a wildcard of the certificate does not stand for it. A certificate with
    /// several URIs has no SPIFFE id, as SPIFFE rules.
    pub(super) fn is_in(&self, certificate: &Certificate) -> bool {
        match self {
            Self::Dns(name) => certificate.dns.contains(name),
            Self::Uri(uri) if uri.starts_with("spiffe://") => certificate.uris == [uri.as_str()],
            Self::Uri(uri) => certificate.uris.contains(uri),
            Self::Address(address) => certificate.addresses.contains(address),
        }
    }
}

impl serde::Serialize for San {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for San {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(text) | Self::Uri(text) => f.write_str(text),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: Named<'_> = Named {
        pod: Some("cache-0"),
        service: Some("cache"),
        namespace: Some("shop"),
        host: None,
        address: Some(IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1))),
    };

    #[test]
    fn placeholders_are_filled_in_and_others_refused() {
        let template: NameTemplate = "{pod}.{service}.{namespace}.svc".parse().expect("a template");
        assert_eq!(template.to_string(), "{pod}.{service}.{namespace}.svc");
        assert_eq!(template.fill(&POD).expect("a name").to_str(), "cache-0.cache.shop.svc");
        assert_eq!(template.fill(&Named { pod: None, ..POD }), Err(NameError::Missing("pod")));
        assert_eq!("{node}.x".parse::<NameTemplate>(), Err(NameError::Placeholder("node".to_owned())));
        for wrong in ["", "a b", "{pod", "-{pod}-.x y", "a..b"] {
            assert!(matches!(wrong.parse::<NameTemplate>(), Err(NameError::Invalid(_))), "{wrong}");
        }
        assert_eq!(
            "10.0.0.9".parse::<NameTemplate>().expect("an address").fill(&POD).expect("a name").to_str(),
            "10.0.0.9"
        );
    }

    #[test]
    fn the_default_is_the_service_then_the_host_then_the_address() {
        let name = |named: Named<'_>| default_name(&named).map(|name| name.to_str().into_owned());
        assert_eq!(name(POD).as_deref(), Ok("cache.shop.svc"));
        let listed = Named { service: None, host: Some("a.example."), ..POD };
        assert_eq!(name(listed).as_deref(), Ok("a.example"));
        assert_eq!(name(Named { host: None, ..listed }).as_deref(), Ok("10.0.0.1"));
        assert_eq!(name(Named::default()), Err(NameError::Nothing));
    }

    #[test]
    fn a_spiffe_id_must_be_the_only_uri() {
        let id: San = "spiffe://domain/ns/shop".parse().expect("a SAN");
        let with = |uris: &[&str]| Certificate {
            uris: uris.iter().map(ToString::to_string).collect(),
            ..Certificate::default()
        };
        assert!(id.is_in(&with(&["spiffe://domain/ns/shop"])));
        assert!(!id.is_in(&with(&["spiffe://domain/ns/shop", "spiffe://domain/ns/other"])));
        assert!(!id.is_in(&with(&["spiffe://domain/ns/shop2"])));
        let name: San = "A.example".parse().expect("a SAN");
        let dns = |names: &[&str]| Certificate {
            dns: names.iter().map(ToString::to_string).collect(),
            ..Certificate::default()
        };
        assert!(name.is_in(&dns(&["b.example", "a.example"])) && !name.is_in(&dns(&["*.example"])));
        assert_eq!("A.example.".parse(), Ok(name), "certificates have no final dot");
        assert!("a b".parse::<San>().is_err() && "spiffe://a b".parse::<San>().is_err());
    }
}
