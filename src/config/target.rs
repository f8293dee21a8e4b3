//! Where the endpoints of a route come from, and the one name that each such place has.

use std::{fmt, path::PathBuf};

use controlplane::{
    build::PortSelector,
    source::{dns, fixed, kube::Selection},
};
use snapshot::{ClusterName, ContentHash};

/// Where the endpoints of a cluster come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// The ready endpoints of Kubernetes Services.
    Service(Selection),
    /// These; sorted, none twice.
    Endpoints(Vec<fixed::Target>),
    /// What a file says.
    File(PathBuf),
    /// What DNS says.
    Dns(dns::Query),
}

/// Longer names are cut and told apart by a hash: they stand in log lines and metric labels.
const LONGEST_NAME: usize = 200;

/// What is left of a name that is too long.
const SHORTENED: usize = 100;

// === impl Target ===

impl Target {
    /// The name of the cluster with these endpoints: equal for equal targets, and in every process, since it also
    /// tells replicas of one broadcaster from other hops.
    pub(crate) fn cluster(&self) -> ClusterName {
        let name = match self {
            Self::Service(Selection { services, port }) => {
                let port = match port {
                    PortSelector::Only => String::new(),
                    PortSelector::Named(name) => format!(":{name}"),
                    PortSelector::Number(number) => format!(":{number}"),
                };
                format!("kube:{}{port}", join(services))
            }
            Self::Endpoints(endpoints) => format!("fixed:{}", join(endpoints)),
            Self::File(path) => format!("file:{}", path.display()),
            Self::Dns(query) => format!("dns:{query}"),
        };
        let usable = |c: &char| c.is_ascii_graphic();
        if name.len() <= LONGEST_NAME && name.chars().all(|c| usable(&c)) {
            return ClusterName::new(&name).expect("is short and printable, and starts with its kind");
        }
        let start: String = name.chars().map(|c| if usable(&c) { c } else { '_' }).take(SHORTENED).collect();
        ClusterName::new(format!("{start}...{}", ContentHash::of(&name))).expect("was made short and printable")
    }
}

fn join(items: &[impl fmt::Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Reads a port of a Service: its name, or its number as endpoints listen on it.
///
/// # Errors
/// What to write instead.
pub(super) fn port(text: &str) -> Result<PortSelector, String> {
    let invalid = || format!("{text:?} is not a port: use a name like http or a number from 1 to 65535");
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return text.parse().ok().filter(|port| *port != 0).map(PortSelector::Number).ok_or_else(invalid);
    }
    if is_label(text) { Ok(PortSelector::Named(text.into())) } else { Err(invalid()) }
}

/// What names of namespaces and ports look like (RFC 1123).
pub(super) fn is_label(text: &str) -> bool {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let end = |b: Option<u8>| b.is_some_and(|b| b != b'-');
    text.len() <= 63 && text.bytes().all(valid) && end(text.bytes().next()) && end(text.bytes().last())
}

#[cfg(test)]
mod tests {
    use controlplane::source::kube::Pattern;

    use super::*;

    #[test]
    fn ports_by_name_and_number() {
        assert_eq!(port("http"), Ok(PortSelector::Named("http".into())));
        assert_eq!(port("8080"), Ok(PortSelector::Number(8080)));
        for text in ["", "0", "65536", "a b", "ht*p"] {
            assert!(port(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_cluster_name_is_short_and_its_own() {
        let file = |path: &str| Target::File(path.into()).cluster();
        assert_eq!(file("/etc/x.json").as_str(), "file:/etc/x.json");
        let (long, other) = (file(&"x".repeat(5000)), file(&"x".repeat(5001)));
        assert!(long.as_str().len() <= LONGEST_NAME && long != other);
        assert!(file("/a b").as_str().starts_with("file:/a_b...") && file("/a b") != file("/a_b"));
        let services = vec![Pattern::parse("shop/cache", None).unwrap()];
        let selection = Selection { services, port: port("http").unwrap() };
        assert_eq!(Target::Service(selection).cluster().as_str(), "kube:shop/cache:http");
    }
}
