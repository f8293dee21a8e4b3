//! Patterns for Services: `[namespace/]name` with `*` wildcards.

use std::{fmt, sync::Arc};

use crate::{
    build::PortSelector,
    index::ServiceKey,
    kube_cluster::{service_slices, slices_of_services},
    watch::{Scope, WatchKey},
};

/// The Services whose endpoints are one cluster, and their port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointSelection {
    /// Every Service that one of these matches.
    pub services: Vec<Pattern>,
    /// The port of each Service.
    pub port: PortSelector,
}

/// A pattern for Services; `*` stands for any part of a name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pattern {
    namespace: Arc<str>,
    name: Arc<str>,
    /// Whether no namespace was given, so that all are matched.
    anywhere: bool,
}

/// The text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// It has no Service, or no namespace before the slash.
    #[error("{0:?} is not a service: write name or namespace/name, with * for any part of either")]
    Shape(String),
    /// It has a character that names in Kubernetes do not have.
    #[error(
        "{text:?} is not a service: names have lower-case letters, digits and -, and * here; {character:?} is not allowed"
    )]
    Character {
        /// The text.
        text: String,
        /// Its first such character.
        character: char,
    },
    /// A part of it is longer than any name.
    #[error("{0:?} is not a service: names have at most 63 characters")]
    TooLong(String),
}

impl Pattern {
    /// Reads `name` or `namespace/name`. Without a namespace, `namespace` applies, and without that, all namespaces.
    ///
    /// # Errors
    /// [`InvalidPattern`] if no Service in Kubernetes can have such a name.
    pub fn parse(text: &str, namespace: Option<&str>) -> Result<Self, InvalidPattern> {
        let anywhere = namespace.is_none() && !text.contains('/');
        let (namespace, name) = text.split_once('/').unwrap_or((namespace.unwrap_or("*"), text));
        for part in [namespace, name] {
            if part.is_empty() || part.contains('/') {
                return Err(InvalidPattern::Shape(text.into()));
            }
            let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '*');
            if let Some(character) = part.chars().find(|c| !allowed(c)) {
                return Err(InvalidPattern::Character { text: text.into(), character });
            }
            if part.len() > 63 {
                return Err(InvalidPattern::TooLong(text.into()));
            }
        }
        Ok(Self { namespace: namespace.into(), name: name.into(), anywhere })
    }

    /// The one Service of this name.
    pub(crate) fn of(service: &ServiceKey) -> Self {
        Self { namespace: service.namespace.clone(), name: service.name.clone(), anywhere: false }
    }

    /// Whether it matches this Service.
    pub fn matches(&self, service: &ServiceKey) -> bool {
        glob(self.namespace.as_bytes(), service.namespace.as_bytes())
            && glob(self.name.as_bytes(), service.name.as_bytes())
    }

    /// The one Service that it matches, if it has no wildcard.
    #[must_use]
    pub fn exact(&self) -> Option<ServiceKey> {
        let exact = is_exact(&self.namespace) && is_exact(&self.name);
        exact.then(|| ServiceKey { namespace: self.namespace.clone(), name: self.name.clone() })
    }

    /// The narrowest watch that contains every slice of these Services: only the named namespace, and only the slices of the named
    /// Service.
    pub(super) fn watch_key(&self) -> WatchKey {
        let scope = self.scope();
        if is_exact(&self.name) { service_slices(scope, &self.name) } else { slices_of_services(scope) }
    }

    /// The namespaces of its Services.
    pub(super) fn scope(&self) -> Scope {
        if is_exact(&self.namespace) { Scope::Namespace(self.namespace.clone()) } else { Scope::All }
    }

    /// The name that it matches.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether no namespace was given.
    pub(super) fn is_anywhere(&self) -> bool {
        self.anywhere
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

fn is_exact(pattern: &str) -> bool {
    !pattern.contains('*')
}

/// Whether the pattern matches the whole text. The time is at most the product of their lengths, both of which are bounded.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    // The position of the last star, and how much of the text it has matched.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn service(namespace: &str, name: &str) -> ServiceKey {
        ServiceKey { namespace: namespace.into(), name: name.into() }
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text, None).expect("a valid pattern")
    }

    #[test]
    fn a_pattern_matches_whole_names() {
        assert!(pattern("shop/cache").matches(&service("shop", "cache")));
        assert!(!pattern("shop/cache").matches(&service("shop", "cache-2")));
        assert!(!pattern("shop/cache").matches(&service("shop2", "cache")));
        assert!(pattern("cache").matches(&service("anywhere", "cache")));
        assert!(pattern("shop-*/c*e").matches(&service("shop-eu", "cache")));
        assert!(pattern("*/*").matches(&service("a", "b")));
        let default = Pattern::parse("cache", Some("shop")).expect("a valid pattern");
        assert!(!default.matches(&service("other", "cache")));
    }

    #[test]
    fn a_scope_is_no_wider_than_the_pattern_says() {
        let key = |text: &str| pattern(text).watch_key().to_string();
        assert_eq!(key("shop/cache"), "endpointslices in namespace shop with kubernetes.io/service-name=cache");
        assert_eq!(key("shop/c*"), "endpointslices in namespace shop with kubernetes.io/service-name");
        assert_eq!(key("*/cache"), "endpointslices in all namespaces with kubernetes.io/service-name=cache");
        assert_eq!(key("shop-*/*"), "endpointslices in all namespaces with kubernetes.io/service-name");
    }

    #[test]
    fn an_invalid_service_is_refused_with_the_reason() {
        for text in ["", "/", "a/", "/a", "a/b/c"] {
            assert_eq!(Pattern::parse(text, None), Err(InvalidPattern::Shape(text.into())), "{text}");
        }
        let refusal = Pattern::parse("shop/Cache", None).expect_err("an upper-case letter");
        assert!(refusal.to_string().contains("'C'"), "{refusal}");
        assert!(matches!(Pattern::parse(&"x".repeat(64), None), Err(InvalidPattern::TooLong(_))));
    }

    /// The obvious definition of what a pattern matches.
    fn matches_slowly(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|n| matches_slowly(rest, &text[n..])),
            Some((c, rest)) => text.split_first().is_some_and(|(t, more)| t == c && matches_slowly(rest, more)),
        }
    }

    proptest! {
        #[test]
        fn wildcards_match_what_they_are_defined_to(pattern in "[ab*]{0,7}", text in "[ab]{0,9}") {
            let expected = matches_slowly(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), expected);
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = Pattern::parse(&text, None);
        }
    }
}
