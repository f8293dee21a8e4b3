//! The sources of a route's endpoints, and their cluster names.

use std::{fmt, time::Duration};

use controlplane::{
    build::PortSelector,
    source::{dns, file::FilePattern, fixed, http::ListUrl, kube::EndpointSelection},
};
use snapshot::{ClusterName, ContentHash};

/// The source of a cluster's endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// The ready endpoints of Kubernetes Services.
    Service(EndpointSelection),
    /// A fixed list, sorted and without duplicates.
    Endpoints(Vec<fixed::Target>),
    /// The endpoints in a file, or in all files that a pattern matches.
    File(FilePattern),
    /// The answers of an HTTP server.
    Url {
        /// The URL of the list.
        url: ListUrl,
        /// The interval between two requests.
        refresh: Duration,
    },
    /// The answers of the DNS.
    Dns(dns::Query),
}

/// The longest name, in bytes, because names are in log lines and metric labels. Longer ones are cut and get a hash.
const LONGEST_NAME: usize = 200;

/// The kept part of a longer name, in bytes.
const SHORTENED: usize = 100;

// === impl Target ===

impl Target {
    /// The name of the cluster with these endpoints: equal for equal targets, and in every process. It excludes the credentials of
    /// URLs and their intervals, so that URLs that differ only in these have one name.
    pub(crate) fn cluster(&self) -> ClusterName {
        let name = match self {
            Self::Service(EndpointSelection { services, port }) => {
                let port = match port {
                    PortSelector::Only => String::new(),
                    PortSelector::Named(name) => format!(":{name}"),
                    PortSelector::Number(number) => format!(":{number}"),
                };
                format!("kube:{}{port}", join(services))
            }
            Self::Endpoints(endpoints) => format!("fixed:{}", join(endpoints)),
            Self::File(files) => format!("file:{files}"),
            Self::Url { url, .. } => format!("url:{url}"),
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

#[cfg(test)]
mod tests {
    use controlplane::source::kube::Pattern;

    use super::*;

    #[test]
    fn a_cluster_name_is_short_and_its_own() {
        let file = |path: &str| Target::File(path.parse().unwrap()).cluster();
        assert_eq!(file("/etc/x.json").as_str(), "file:/etc/x.json");
        let (long, other) = (file(&"x".repeat(5000)), file(&"x".repeat(5001)));
        assert!(long.as_str().len() <= LONGEST_NAME && long != other);
        assert!(file("/a b").as_str().starts_with("file:/a_b...") && file("/a b") != file("/a_b"));
        let url = |text: &str| Target::Url { url: text.parse().unwrap(), refresh: Duration::ZERO }.cluster();
        assert_eq!(url("https://user:s3cret@a.example/x").as_str(), "url:https://user:***@a.example/x");
        let services = vec![Pattern::parse("shop/cache", None).unwrap()];
        let selection = EndpointSelection { services, port: PortSelector::Named("http".into()) };
        assert_eq!(Target::Service(selection).cluster().as_str(), "kube:shop/cache:http");
    }
}
