//! What must hold for rules and tokens of the configuration, and for the fields by which a caller decides how its request is sent.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use access::by::By;
use access::tokens::{Tokens, is_name};
use proxy::bench::control::Control;
use proxy::bench::http::Fields;
use proxy::bench::http::request::RequestHead;
use proxy::bench::setup::{self, Tables};
use proxy::bench::table::RouteEntry;
use proxy::config::{Allow, Ignore, Ignored};
use serde_json::Value;
use snapshot::{Change, Cluster, ClusterName, Endpoint, PodRef};

/// Rules that say who may: as a whole, and what stands behind `by`.
pub fn allow_rule(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(Allow { by, .. }) = text.parse::<Allow>() {
        shown_is_read_alike(&by);
    }
    if let Ok(by) = text.parse::<By>() {
        assert!(!by.is_anyone(), "a rule with identities takes nobody but those");
        shown_is_read_alike(&by);
    }
}

fn shown_is_read_alike(by: &By) {
    let shown = by.to_string();
    assert_eq!(shown.is_empty(), by.is_anyone());
    let Some(text) = shown.strip_prefix("by ") else { return };
    match text.parse::<By>() {
        Ok(again) => {
            assert_eq!(again.to_string(), shown);
            assert_eq!(again.grants_control(), by.grants_control());
            assert_eq!(again.patterns().len(), by.patterns().len());
        }
        Err(error) => panic!("{shown:?} cannot be read: {error}"),
    }
}

/// Files of tokens.
pub fn token_file(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let entries = lines.filter_map(|line| line.split_once(':')).map(|(name, token)| (name.trim(), token.trim()));
    match Tokens::parse(input) {
        Ok(tokens) => {
            assert!(!tokens.holders().is_empty() && tokens.short().len() <= tokens.holders().len());
            let known: Vec<_> = entries.collect();
            assert_eq!(known.len(), tokens.holders().len(), "each line is one");
            for (name, token) in known.into_iter().filter(|(_, token)| !token.starts_with("sha256:")) {
                let holder = tokens.holder(token).unwrap_or_else(|| panic!("the token of {name:?} is not known"));
                assert_eq!(holder.as_str(), format!("token:{name}"));
            }
            assert_eq!(tokens.holder(""), None);
        }
        Err(error) => {
            let told = error.to_string();
            // What is as long as a token is none of the words of an error.
            let is_token = |(name, token): &(&str, &str)| is_name(name) && token.len() >= 64 && !name.contains(token);
            assert!(!entries.filter(is_token).any(|(_, token)| told.contains(token)), "an error shows a token");
        }
    }
}

/// The fields by which a caller decides how its request is sent: a line for each, whose first byte says which.
pub fn control(input: &[u8]) {
    const NAMES: [&str; 5] = ["Require", "Timeout", "To", "Waves", "Dry-Run"];
    let mut text = b"GET / HTTP/1.1\r\nHost: x\r\n".to_vec();
    for line in input.split(|b| *b == b'\n') {
        let Some((which, value)) = line.split_first() else { continue };
        text.extend_from_slice(format!("X-Broadcast-{}: ", NAMES[usize::from(*which) % NAMES.len()]).as_bytes());
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    let Ok(head) = RequestHead::parse(text.into(), usize::MAX, Fields::default()) else { return };
    let read = Control::read(&head.fields);
    assert_eq!(Control::read(&head.fields), read, "it is read the same way again");
    let told = |error: &dyn std::fmt::Display, status: u16| {
        assert!(matches!(status, 400 | 404) && error.to_string().contains("X-Broadcast-"), "{status}: {error}");
    };
    let control = match read {
        Ok(control) => control,
        Err(error) => return told(&error, error.status()),
    };
    let route = route();
    match control.apply(route) {
        Err(error) => told(&error, error.status()),
        Ok(None) => {}
        Ok(Some(own)) => {
            let there = own.members.len();
            let mut rest = route.members.iter();
            let is_chosen = own.members.iter().all(|member| rest.any(|known| Arc::ptr_eq(known, member)));
            assert!(there > 0 && is_chosen, "some of the route's, in their order, each once");
            let policy = &own.config.policy;
            assert!(policy.require.required(there) <= there);
            assert!(policy.timeouts.total <= route.config.policy.timeouts.total && !policy.timeouts.total.is_zero());
        }
    }
}

/// A route to four endpoints in two zones.
fn route() -> &'static Arc<RouteEntry> {
    static ROUTE: OnceLock<Arc<RouteEntry>> = OnceLock::new();
    ROUTE.get_or_init(|| {
        let name = ClusterName::new("cache").expect("a name");
        let endpoint = |n: u8| Endpoint {
            zone: Some(if n < 2 { "a" } else { "b" }.into()),
            node: Some(format!("n{}", n % 2).into()),
            pod: Some(PodRef { namespace: "shop".into(), name: format!("cache-{n}").into(), uid: "".into() }),
            ..Endpoint::ready(([10, 0, 0, n], 80).into())
        };
        let (publisher, reader) = snapshot::channel();
        publisher.apply([Change::Set(Arc::new(Cluster::new(name, (0..4).map(endpoint).collect())))]);
        let config = setup::config(vec![setup::route("cache", "cache")]);
        let table = Tables::new(config, reader).next(None).table;
        table.listeners[0].routes[0].clone()
    })
}

/// What may differ in bodies: a line with what is to be ignored, and the body.
pub fn compare_ignore(input: &[u8]) {
    let Some(end) = input.iter().position(|b| *b == b'\n') else { return };
    let (Ok(text), body) = (std::str::from_utf8(&input[..end]), &input[end + 1..]) else { return };
    let ignored = match text.parse::<Ignored>() {
        Ok(ignored) => ignored,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert_eq!(ignored.to_string(), text);
    let pointer = if let Ignored::Pointer(pointer) = &ignored { Some(pointer.clone()) } else { None };
    let ignore: Ignore = [ignored].into_iter().collect();
    let rest = ignore.apply(body);
    let Some(pointer) = pointer else { return assert!(rest.len() <= body.len(), "nothing is added") };
    let Ok(mut document) = serde_json::from_slice::<Value>(body) else {
        return assert!(matches!(rest, Cow::Borrowed(same) if same == body), "what is no JSON stays as it is");
    };
    let before = document.clone();
    pointer.remove(&mut document);
    assert_eq!(rest, document.to_string().as_bytes(), "JSON without what is ignored");
    match before.pointer(text) {
        None => assert_eq!(document, before, "nothing is there"),
        Some(_) => assert!(matches!(document.pointer(text), None | Some(Value::Null)), "{document}"),
    }
}
