//! The selection of endpoints for a request: `zone=a`, `pod=cache-0,cache-1`, `!node=n1`, `endpoint=10.1.0.4:80`.

use std::fmt::Write as _;

use crate::target::Target;

/// The chosen endpoints: those that any selector names, or all without a positive selector, minus the excluded ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    chosen: Vec<Selector>,
    excluded: Vec<Selector>,
}

/// Selects endpoints by one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Selector {
    key: Key,
    value: Box<str>,
}

/// The attribute of a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Zone,
    Pod,
    Node,
    Endpoint,
}

/// The text is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} chooses no endpoints: use for instance zone=a, pod=cache-0,cache-1, node=n1 or endpoint=10.1.0.4:80, with ! in front to \
     exclude them; there are zone, pod, node and endpoint"
)]
pub struct InvalidSelector(String);

// === impl Selection ===

impl Selection {
    /// Adds the selectors of a field, separated by commas. One without a key has that of the one before it.
    pub(super) fn add(&mut self, text: &str) -> Result<(), InvalidSelector> {
        let invalid = || InvalidSelector(text.to_owned());
        let mut before = None;
        for part in text.split(',') {
            let part = part.trim();
            let (is_excluded, part) = part.strip_prefix('!').map_or((false, part), |part| (true, part.trim_start()));
            let (key, key_excludes, value) = match part.split_once('=') {
                Some((key, value)) => (Key::of(key.trim()).ok_or_else(invalid)?, is_excluded, value.trim()),
                None => {
                    let (key, key_excludes) = before.ok_or_else(invalid)?;
                    (key, key_excludes, part)
                }
            };
            before = Some((key, key_excludes));
            // `pod=!a` means the same as `!pod=a`.
            let (is_negated, value) =
                value.strip_prefix('!').map_or((false, value), |value| (true, value.trim_start()));
            if value.is_empty() {
                return Err(invalid());
            }
            let selectors =
                if is_excluded || key_excludes || is_negated { &mut self.excluded } else { &mut self.chosen };
            selectors.push(Selector { key, value: value.into() });
        }
        Ok(())
    }

    /// Whether this endpoint is chosen.
    pub(super) fn takes(&self, target: &Target) -> bool {
        let named = |selectors: &[Selector]| selectors.iter().any(|selector| selector.names(target));
        (self.chosen.is_empty() || named(&self.chosen)) && !named(&self.excluded)
    }
}

// === impl Selector ===

impl Selector {
    fn names(&self, target: &Target) -> bool {
        self.key.values(target).any(|known| known == *self.value)
    }
}

// === impl Key ===

impl Key {
    const ALL: [Self; 4] = [Self::Endpoint, Self::Pod, Self::Node, Self::Zone];

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.as_str() == name)
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Zone => "zone",
            Self::Pod => "pod",
            Self::Node => "node",
            Self::Endpoint => "endpoint",
        }
    }

    /// The values of an endpoint for this key: for an endpoint with a DNS name also its address.
    fn values(self, target: &Target) -> impl Iterator<Item = String> {
        let endpoint = &target.endpoint;
        let (one, addresses) = match self {
            Self::Zone => (endpoint.zone.as_deref(), &[][..]),
            Self::Pod => (endpoint.pod.as_ref().map(|pod| &*pod.name), &[][..]),
            Self::Node => (endpoint.node.as_deref(), &[][..]),
            Self::Endpoint => (Some(&**target.authority()), endpoint.address.addresses()),
        };
        one.map(str::to_owned).into_iter().chain(addresses.iter().map(ToString::to_string))
    }
}

/// The attributes of an endpoint as text.
pub(super) fn describe(target: &Target) -> String {
    let mut text = String::new();
    for key in Key::ALL {
        if let Some(value) = key.values(target).next() {
            let separator = if text.is_empty() { "" } else { " " };
            // Writing to a text always succeeds.
            let _ = write!(text, "{separator}{}={value}", key.as_str());
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use snapshot::{Endpoint, PodRef};

    use super::*;
    use crate::config::Policy;

    /// An endpoint of each zone, node and pod of these: `a0` to `b1`.
    fn targets() -> Vec<Target> {
        ["a0", "a1", "b0", "b1"]
            .iter()
            .enumerate()
            .map(|(n, name)| {
                let endpoint = Endpoint {
                    zone: Some(name[..1].into()),
                    node: Some(format!("n{}", &name[1..]).into()),
                    pod: Some(PodRef { namespace: "shop".into(), name: Arc::from(*name), uid: "".into() }),
                    ..Endpoint::ready(([10, 0, 0, n as u8], 80).into())
                };
                Target::reached_by(&Policy::default(), Arc::new(endpoint.into()), 1, &Arc::default())
            })
            .collect()
    }

    fn selection(fields: &[&str]) -> Selection {
        let mut selection = Selection::default();
        fields.iter().for_each(|field| selection.add(field).unwrap_or_else(|error| panic!("{field:?}: {error}")));
        selection
    }

    fn chosen(fields: &[&str]) -> String {
        let (selection, targets) = (selection(fields), targets());
        targets
            .iter()
            .filter(|target| selection.takes(target))
            .map(|target| &**target.label())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn several_selectors_are_a_union_without_what_is_excluded() {
        for (fields, expected) in [
            (&["zone=a"][..], "a0 a1"),
            (&["pod=a0,b1"], "a0 b1"),
            (&["node=n1"], "a1 b1"),
            (&["endpoint=10.0.0.2:80"], "b0"),
            (&["zone=a, pod=b1"], "a0 a1 b1"),
            (&["zone=a", "node=n1"], "a0 a1 b1"),
            (&["!zone=a"], "b0 b1"),
            (&["zone=!a"], "b0 b1"),
            (&["! pod = a0 , b1"], "a1 b0"),
            (&["zone=a,!pod=a0"], "a1"),
            (&["pod=a0,!b0,b1"], "a0 b1"),
            (&["!pod=a0", "pod=a0,a1"], "a1"),
            (&["zone=c"], ""),
            (&["zone=A"], ""),
            (&["!zone=a,!zone=b"], ""),
        ] {
            assert_eq!(chosen(fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn invalid_selectors_are_refused() {
        for text in
            ["", "a0", "zone", "zone=", "=a", "rack=1", "zone=a,", "zone=a,,b", "!", "!zone=", "zone=!", "Zone=a"]
        {
            let error = Selection::default().add(text).expect_err(text).to_string();
            assert!(error.contains("zone, pod, node and endpoint"), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_endpoint_is_described_by_its_selectors() {
        let target = &targets()[3];
        let described = describe(target);
        assert_eq!(described, "endpoint=10.0.0.3:80 pod=b1 node=n1 zone=b");
        for selector in described.split(' ') {
            assert!(selection(&[selector]).takes(target), "{selector}");
        }
    }

    proptest! {
        /// Compared with the selectors said one by one; whatever is written, nothing panics.
        #[test]
        fn the_order_of_selectors_plays_no_part(
            selectors in proptest::collection::vec((any::<bool>(), 0..2_usize, 0..3_usize), 1..6),
            text in "[!=,a-z ]{0,20}",
        ) {
            let fields: Vec<String> = selectors
                .iter()
                .map(|(not, key, value)| {
                    let value = if *key == 0 { ["a", "b", "c"][*value] } else { ["n0", "n1", "n2"][*value] };
                    format!("{}{}={value}", if *not { "!" } else { "" }, ["zone", "node"][*key])
                })
                .collect();
            let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
            let mut reversed = fields.clone();
            reversed.reverse();
            prop_assert_eq!(chosen(&fields), chosen(&reversed));
            prop_assert_eq!(chosen(&fields), chosen(&[&fields.join(",")]));
            let _ = Selection::default().add(&text);
        }
    }
}
