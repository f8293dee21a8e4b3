//! Annotations of Services that configure Traefik's load balancing.
//!
//! `fanfare/health-path` is the path of health checks, `fanfare/health-interval` and `fanfare/health-timeout` are their interval and
//! time-out. `fanfare/sticky` (`true`, or the name of a cookie) keeps a client with its endpoint. `fanfare/weight` is the Service's share
//! of requests if several Services have the same host and path.
//!
//! Rule: as with routes, an invalid annotation has no effect, and is reported.

use std::{collections::BTreeMap, time::Duration};

use controlplane::index::ServiceKey;
use runtime::duration;

use super::{
    LeftOut, leave_out,
    route::{is_path, is_reference},
};
use crate::backend::Backend;

/// The largest weight.
const MAX_WEIGHT: u32 = 1000;
/// The allowed intervals and time-outs of health checks.
const INTERVALS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);

/// The settings of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Balancing {
    pub(super) health: Option<Health>,
    pub(super) sticky: Option<Sticky>,
    pub(super) weight: Option<u32>,
}

/// The health checks of endpoints. Durations are in Go's notation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) path: String,
    /// In Go's notation.
    pub(super) interval: Option<String>,
    pub(super) timeout: Option<String>,
}

/// How a client stays with its endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sticky {
    /// By a cookie that Traefik names.
    Default,
    /// By a cookie of this name.
    Cookie(String),
}

/// The settings of the Services of these backends, where there are any.
pub(super) fn balancing<'a>(
    backends: &'a [Backend],
    left_out: &mut Vec<LeftOut>,
) -> BTreeMap<&'a ServiceKey, Balancing> {
    let mut all = BTreeMap::new();
    for backend in backends {
        let entry = &backend.entry;
        if entry.facts.annotations.is_empty() || all.contains_key(&entry.key) {
            continue;
        }
        match asked(&entry.facts.annotations) {
            Ok(asked) if asked == Balancing::default() => {}
            Ok(asked) => drop(all.insert(&entry.key, asked)),
            Err(why) => leave_out(left_out, &entry.key.to_string().into(), why),
        }
    }
    all
}

fn asked(annotations: &BTreeMap<String, String>) -> Result<Balancing, String> {
    let said = |name: &str| annotations.get(&format!("fanfare/{name}")).map(String::as_str);
    let wrong = |name: &str, text: &str, what: &str| {
        let short: String = text.chars().take(80).collect();
        format!("annotation fanfare/{name}: {short:?} is not a {what}")
    };
    let period = |name: &str| {
        said(name)
            .map(|text| match duration::parse(text) {
                Ok(period) if INTERVALS.contains(&period) => Ok(duration::format(period)),
                _ => Err(wrong(name, text, "duration from 100ms to 1h")),
            })
            .transpose()
    };
    let health = match said("health-path") {
        None => None,
        Some(path) if is_path(path) => {
            let (interval, timeout) = (period("health-interval")?, period("health-timeout")?);
            Some(Health { path: path.to_owned(), interval, timeout })
        }
        Some(path) => {
            return Err(wrong("health-path", path, "path (a slash, then letters, digits and any of /._~%+=:@,-)"));
        }
    };
    let sticky = match said("sticky") {
        None | Some("false") => None,
        Some("true") => Some(Sticky::Default),
        Some(name) if is_reference(name) && !name.contains('@') => Some(Sticky::Cookie(name.to_owned())),
        Some(name) => return Err(wrong("sticky", name, "name of a cookie (letters, digits and any of ._-), nor true")),
    };
    let weight = said("weight")
        .map(|text| {
            let weight = text.parse().ok().filter(|weight| *weight <= MAX_WEIGHT);
            weight.ok_or_else(|| wrong("weight", text, &format!("whole number from 0 to {MAX_WEIGHT}")))
        })
        .transpose()?;
    Ok(Balancing { health, sticky, weight })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(all: &[(&str, &str)]) -> Result<Balancing, String> {
        asked(&all.iter().map(|(name, value)| (format!("fanfare/{name}"), (*value).to_owned())).collect())
    }

    #[test]
    fn annotations_say_how_to_balance() {
        assert_eq!(told(&[]), Ok(Balancing::default()));
        let all = [("health-path", "/up"), ("health-interval", "1500ms"), ("sticky", "shop"), ("weight", "0")];
        let health = Health { path: "/up".into(), interval: Some("1.5s".into()), timeout: None };
        let expected = Balancing { health: Some(health), sticky: Some(Sticky::Cookie("shop".into())), weight: Some(0) };
        assert_eq!(told(&all), Ok(expected));
        assert_eq!(told(&[("sticky", "true")]).map(|said| said.sticky), Ok(Some(Sticky::Default)));
        assert_eq!(told(&[("sticky", "false")]).map(|said| said.sticky), Ok(None));
    }

    #[test]
    fn an_invalid_annotation_is_ignored() {
        for (name, value) in [
            ("health-path", "up"),
            ("health-path", "/{{ env \"SECRET\" }}"),
            ("health-interval", "often"),
            ("health-interval", "0s"),
            ("health-timeout", "2h"),
            ("sticky", "a cookie"),
            ("sticky", ""),
            ("weight", "-1"),
            ("weight", "1001"),
            ("weight", "much"),
        ] {
            let with_path = if name == "health-path" { vec![] } else { vec![("health-path", "/")] };
            let why = told(&[with_path, vec![(name, value)]].concat()).expect_err(value);
            assert!(why.contains(&format!("fanfare/{name}")), "{name} {value:?}: {why}");
        }
    }
}
