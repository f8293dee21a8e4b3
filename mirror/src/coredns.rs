//! The part of a Corefile with which CoreDNS resolves services of a remote cluster under that cluster's own domain.
//!
//! `web.shop.svc.cluster.west` is looked up as `west-web-6d6972726f720a-shop.mirrors.svc.cluster.local`, including subdomains
//! (`_http._tcp`, a pod's hostname), and names in the answer are translated back, also those in SRV and CNAME records. One rule
//! serves all mirrors whose names contain namespace and service; each other one, for instance with a hashed name, has its own rule.

mod pattern;
mod services;

use std::fmt;

use pattern::{Inverse, literal};
pub use services::{Found, services};

use crate::names::{self, Scheme};

/// The regular expression of the subdomains of a Service in a query.
const SUBDOMAINS: &str = r"^((?:[^.]+\.)*)";

/// The mirrored Services of one remote cluster.
#[derive(Clone, Copy, Debug)]
pub struct Mirrored<'a> {
    /// The remote cluster's name in messages.
    pub remote: &'a str,
    /// How local names are made.
    pub scheme: &'a Scheme,
    /// The prefix of the mirrors' names.
    pub prefix: &'a str,
    /// The namespace of the mirrors.
    pub namespace: &'a str,
    /// The domain of the remote cluster's services: `cluster.west`.
    pub domain: &'a str,
    /// The remote Services, as namespace and name.
    pub services: &'a [(String, String)],
}

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A server block for the domain, to be added to the Corefile.
    #[default]
    Server,
    /// Only the rules, to be added to a server block with the `kubernetes` plugin.
    Rules,
}

/// A part of a Corefile, which [`fmt::Display`] writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stanza {
    remote: String,
    domain: String,
    cluster_domain: String,
    form: Form,
    rules: Vec<Rule>,
}

/// One `rewrite`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    why: &'static str,
    /// The pattern of queries, and what is looked up instead.
    question: (String, String),
    /// How names in the answer are translated back; `None` where only the query's own name can be.
    answer: Option<(String, String)>,
}

/// The stanza for a remote cluster. `cluster_domain` is that of this cluster, mostly `cluster.local`.
#[must_use]
pub fn stanza(mirrored: Mirrored<'_>, cluster_domain: &str, form: Form) -> Stanza {
    let Mirrored { scheme, prefix, services, .. } = mirrored;
    let cluster_domain = cluster_domain.trim_matches('.');
    let inverse = Inverse::of(scheme.template(), prefix);
    let mut services: Vec<_> = services.iter().map(|(namespace, name)| (namespace.as_str(), name.as_str())).collect();
    services.sort();
    services.dedup();
    let mut rules = Vec::new();
    for (namespace, service) in services {
        // A Service without a local name is not mirrored.
        let Ok(name) = names::local_name(scheme, prefix, namespace, service) else { continue };
        let why = match &inverse {
            _ if name.is_hashed() => "its name is too long, and is hashed",
            Inverse::Unique(unique) if unique.invert(name.as_str()) == Some((namespace, service)) => continue,
            Inverse::Unique(_) => "its name could be that of another one",
            Inverse::Ambiguous => "the template does not tell namespace and service apart",
            Inverse::None => "the template leaves the namespace out",
        };
        rules.push(one(mirrored, cluster_domain, why, (namespace, service), name.as_str()));
    }
    rules.extend(general(mirrored, cluster_domain, &inverse));
    let (remote, domain) = (mirrored.remote.to_owned(), domain(mirrored).to_owned());
    Stanza { remote, domain, cluster_domain: cluster_domain.into(), form, rules }
}

fn domain<'a>(mirrored: Mirrored<'a>) -> &'a str {
    mirrored.domain.trim_matches('.')
}

/// The rule for one Service.
fn one(
    mirrored: Mirrored<'_>,
    cluster_domain: &str,
    why: &'static str,
    (namespace, service): (&str, &str),
    name: &str,
) -> Rule {
    let remote = format!("{service}.{namespace}.svc.{}.", domain(mirrored));
    let local = format!("{name}.{}.svc.{cluster_domain}.", mirrored.namespace);
    let turn = |from: &str, to: &str| (format!("{SUBDOMAINS}{}$", literal(from)), format!("{{1}}{to}"));
    Rule { why, question: turn(&remote, &local), answer: Some(turn(&local, &remote)) }
}

/// The rule for all Services whose local names contain namespace and service, if there is one.
fn general(mirrored: Mirrored<'_>, cluster_domain: &str, inverse: &Inverse) -> Option<Rule> {
    let domain = domain(mirrored);
    let local = format!(".{}.svc.{cluster_domain}.", mirrored.namespace);
    let answer = match inverse {
        Inverse::None => return None,
        Inverse::Ambiguous => None,
        Inverse::Unique(unique) => {
            // The first group has the subdomains; the others come in the template's order.
            let [service, namespace] = if unique.service_first { [2, 3] } else { [3, 2] };
            let from = format!("{SUBDOMAINS}{}{}$", unique.pattern(), literal(&local));
            Some((from, format!("{{1}}{{{service}}}.{{{namespace}}}.svc.{domain}.")))
        }
    };
    let from = format!(r"{SUBDOMAINS}([^.]+)\.([^.]+)\.svc\.{}$", literal(&format!("{domain}.")));
    let to = mirrored.scheme.template().fill(mirrored.prefix, "{3}", "{2}");
    Some(Rule { why: "every other service", question: (from, format!("{{1}}{to}{local}")), answer })
}

impl fmt::Display for Stanza {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { remote, domain, cluster_domain, form, rules } = self;
        writeln!(
            f,
            "# Services of {remote}, mirrored here, under their own names: <service>.<namespace>.svc.{domain}"
        )?;
        let indent = match form {
            Form::Rules => "",
            Form::Server => {
                writeln!(f, "{domain}:53 {{\n    errors")?;
                "    "
            }
        };
        for Rule { why, question: (from, to), answer } in rules {
            writeln!(f, "{indent}# {why}\n{indent}rewrite stop {{\n{indent}    name regex {from} {to}")?;
            match answer {
                Some((from, to)) => {
                    writeln!(f, "{indent}    answer name {from} {to}\n{indent}    answer value {from} {to}")?;
                }
                None => writeln!(f, "{indent}    answer auto")?,
            }
            writeln!(f, "{indent}}}")?;
        }
        match form {
            Form::Rules => Ok(()),
            Form::Server => writeln!(f, "    kubernetes {cluster_domain}\n    cache 30\n    loadbalance\n}}"),
        }
    }
}

#[cfg(test)]
mod tests;
