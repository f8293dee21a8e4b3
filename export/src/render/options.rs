//! The formats by name, and the options that some of them take.

use std::{fmt, str::FromStr};

use super::{Envoy, Format, Template, Traefik};

/// The options of formats. A format takes those that concern it; [`FormatOptions::unused`] returns those that concern none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormatOptions {
    /// Traefik: make routers for Services that ask for them by annotations.
    pub routers: bool,
    /// Traefik: the `serversTransport` of services that speak TLS.
    pub servers_transport: Option<String>,
    /// Envoy: the folder of the set as Envoy itself sees it, an absolute path.
    pub directory: Option<String>,
    /// Envoy and HAProxy: which certificates they accept from endpoints with TLS.
    pub trust: Option<Trust>,
    /// The text of the user's own template.
    pub template: Option<String>,
}

/// Which certificates a load balancer accepts from endpoints that speak TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Those issued by an authority of the load balancer's system.
    #[default]
    System,
    /// Those issued by an authority in this file, a path as the load balancer sees it.
    File(String),
    /// Any certificate.
    Anyone,
}

/// The text is not a [`Trust`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither `system`, `anyone`, nor an absolute path without spaces and quotes to a file of authorities")]
pub struct InvalidTrust(String);

/// Why a [`Format`] cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFormat {
    /// An unknown name.
    #[error("{0:?} is not a format: use one of {list}", list = NAMES.map(|(name, ..)| name).join(", "))]
    Unknown(String),
    /// A required option is missing.
    #[error("the format {format} needs {option}")]
    Missing {
        /// The format's name.
        format: &'static str,
        /// The option, and what it is.
        option: &'static str,
    },
    /// An option has an invalid value.
    #[error("{option}: {why}")]
    Value {
        /// The option.
        option: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// Name, other names, and the extension of its files.
const NAMES: [(&str, &[&str], &str); 13] = [
    ("traefik", &["traefik-yaml", "traefik_yaml"], "traefik.yaml"),
    ("traefik-json", &[], "traefik.json"),
    ("default", &["default-yaml", "default_yaml"], "default.yaml"),
    ("json", &[], "json"),
    ("prometheus", &[], "prometheus.json"),
    ("envoy", &[], "envoy"),
    ("envoy-cds", &[], "envoy.json"),
    ("haproxy", &[], "haproxy.cfg"),
    ("haproxy-map", &[], "haproxy.map"),
    ("nginx", &[], "nginx.conf"),
    ("nginx-stream", &[], "nginx-stream.conf"),
    ("hosts", &[], "hosts"),
    ("template", &[], "txt"),
];

const TRAEFIK: &[&str] = &["traefik", "traefik-json"];

impl FormatOptions {
    /// The options that are given and that none of these formats uses.
    #[must_use]
    pub fn unused(&self, formats: &[Format]) -> Vec<&'static str> {
        let given = [
            ("routers", self.routers, TRAEFIK),
            ("a servers transport", self.servers_transport.is_some(), TRAEFIK),
            ("a directory", self.directory.is_some(), &["envoy"]),
            ("authorities to trust", self.trust.is_some(), &["envoy", "envoy-cds", "haproxy"]),
            ("a template", self.template.is_some(), &["template"]),
        ];
        let unused = |fits: &[&str]| !formats.iter().any(|format| fits.contains(&format.name()));
        given.into_iter().filter(|(_, given, fits)| *given && unused(fits)).map(|(option, ..)| option).collect()
    }
}

impl Format {
    /// The format of that name, with its options.
    ///
    /// # Errors
    /// There is no format of that name, or one of its options is missing or invalid.
    pub fn parse(text: &str, options: &FormatOptions) -> Result<Self, InvalidFormat> {
        let row = NAMES.iter().find(|(name, others, _)| *name == text || others.contains(&text));
        let (format, ..) = *row.ok_or_else(|| InvalidFormat::Unknown(text.to_owned()))?;
        let trust = options.trust.clone().unwrap_or_default();
        Ok(match format {
            "traefik" => Self::TraefikYaml(Traefik::new(options)?),
            "traefik-json" => Self::TraefikJson(Traefik::new(options)?),
            "default" => Self::Default,
            "json" => Self::Json,
            "prometheus" => Self::Prometheus,
            "envoy" => Self::Envoy(Envoy::new(options.directory.as_deref(), trust)?),
            "envoy-cds" => Self::EnvoyCds(trust),
            "haproxy" => Self::Haproxy(trust),
            "haproxy-map" => Self::HaproxyMap,
            "nginx" => Self::Nginx,
            "nginx-stream" => Self::NginxStream,
            "hosts" => Self::Hosts,
            _ => {
                let text = options.template.as_deref();
                let text = text.ok_or(InvalidFormat::Missing { format, option: "a template, the text of the file" })?;
                let template = Template::new(text);
                Self::Template(template.map_err(|e| InvalidFormat::Value { option: "template", why: e.to_string() })?)
            }
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        NAMES[self.row()].0
    }

    /// The extension of its files, without a dot in front: `traefik.yaml`.
    #[must_use]
    pub fn extension(&self) -> &'static str {
        NAMES[self.row()].2
    }

    fn row(&self) -> usize {
        match self {
            Self::TraefikYaml(_) => 0,
            Self::TraefikJson(_) => 1,
            Self::Default => 2,
            Self::Json => 3,
            Self::Prometheus => 4,
            Self::Envoy(_) => 5,
            Self::EnvoyCds(_) => 6,
            Self::Haproxy(_) => 7,
            Self::HaproxyMap => 8,
            Self::Nginx => 9,
            Self::NginxStream => 10,
            Self::Hosts => 11,
            Self::Template(_) => 12,
        }
    }
}

impl FromStr for Trust {
    type Err = InvalidTrust;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "system" => Ok(Self::System),
            "anyone" => Ok(Self::Anyone),
            path if is_plain_path(path) => Ok(Self::File(path.to_owned())),
            _ => Err(InvalidTrust(text.to_owned())),
        }
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Anyone => f.write_str("anyone"),
            Self::File(path) => f.write_str(path),
        }
    }
}

/// Whether it is an absolute path that needs no quotes in any format.
pub(super) fn is_plain_path(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+@".contains(&b);
    path.starts_with('/') && path.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> FormatOptions {
        FormatOptions {
            directory: Some("/etc/envoy/k8s".into()),
            template: Some("x".into()),
            ..FormatOptions::default()
        }
    }

    #[test]
    fn every_format_is_found_by_all_of_its_names() {
        for (name, others, extension) in NAMES {
            let options = FormatOptions {
                directory: some().directory.filter(|_| name == "envoy"),
                template: some().template.filter(|_| name == "template"),
                ..FormatOptions::default()
            };
            for text in others.iter().chain([&name]) {
                let format = Format::parse(text, &options).unwrap();
                assert_eq!((format.name(), format.extension()), (name, extension));
                assert_eq!(format.is_set(), name == "envoy");
            }
        }
    }

    #[test]
    fn an_option_that_no_format_uses_is_reported() {
        let options = FormatOptions { routers: true, trust: Some(Trust::Anyone), ..some() };
        let formats =
            |names: &[&str]| names.iter().map(|name| Format::parse(name, &options).unwrap()).collect::<Vec<_>>();
        assert_eq!(options.unused(&formats(&["traefik", "envoy", "template", "json"])), [""; 0]);
        assert_eq!(options.unused(&formats(&["json", "haproxy"])), ["routers", "a directory", "a template"]);
        assert_eq!(FormatOptions::default().unused(&formats(&["json"])), [""; 0]);
    }

    #[test]
    fn faults_of_a_format_are_reported() {
        let told = |name: &str, options: FormatOptions| Format::parse(name, &options).unwrap_err().to_string();
        let none = FormatOptions::default;
        assert!(told("xml", none()).contains("prometheus, envoy, envoy-cds"), "{}", told("xml", none()));
        assert!(told("envoy", none()).contains("needs a directory"), "{}", told("envoy", none()));
        let relative = FormatOptions { directory: Some("envoy".into()), ..none() };
        assert!(told("envoy", relative.clone()).contains("absolute"), "{}", told("envoy", relative));
        assert!(told("template", none()).contains("needs a template"));
        let broken = FormatOptions { template: Some("a\n{% for %}".into()), ..none() };
        assert!(told("template", broken.clone()).contains("line 2"), "{}", told("template", broken));
        let transport = FormatOptions { servers_transport: Some("a b".into()), ..none() };
        assert!(told("traefik", transport).contains("\"a b\""));
        assert!("ca file".parse::<Trust>().is_err() && "/a b".parse::<Trust>().is_err());
        assert_eq!("/etc/ca.pem".parse::<Trust>(), Ok(Trust::File("/etc/ca.pem".into())));
    }
}
