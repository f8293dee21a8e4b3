//! Golden names of every scheme, and properties that hold for all.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn name(scheme: &str, prefix: &str, namespace: &str, service: &str) -> Name {
    local_name(&scheme.parse().expect("a scheme"), prefix, namespace, service).expect("a name")
}

/// Whether a text is a DNS-1035 label, implemented independently of the module.
fn is_label(text: &str) -> bool {
    let letter = |c: char| c.is_ascii_lowercase();
    (1..=63).contains(&text.len())
        && text.chars().all(|c| letter(c) || matches!(c, '0'..='9' | '-'))
        && text.starts_with(letter)
        && !text.ends_with('-')
}

/// Names that other tools or earlier versions have written, and that must not change. The hashes are those of
/// `printf %s <scheme's name> | sha256sum | xxd -r -p | basenc --base32hex | head -c 10 | tr A-Z a-z`.
#[test]
fn golden() {
    let long = "a-service-with-a-rather-long-name-for-some-reason";
    let table = [
        ("v0.2", "west", "shop", "web", "west-web-6d6972726f720a-shop"),
        ("v0.3", "west", "shop", "web", "west-shop-73736d-web"),
        ("{prefix}-{namespace}--{service}", "west", "shop", "web", "west-shop--web"),
        ("{service}-of-{namespace}", "west", "shop", "web", "web-of-shop"),
        ("x{service}", "west", "shop", "web", "xweb"),
        // The longest names without a hash: 46 characters of prefix, namespace and service in one scheme, 54 in the other.
        ("v0.2", "west", "s", &"n".repeat(41), &format!("west-{}-6d6972726f720a-s", "n".repeat(41))),
        ("v0.3", "west", "s", &"n".repeat(49), &format!("west-s-73736d-{}", "n".repeat(49))),
        ("v0.2", "west", "s", &"n".repeat(42), "west-nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn-6d69-lrv90n0v4b"),
        ("v0.3", "west", "s", &"n".repeat(50), "west-s-73736d-nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn-gqtqmogmg2"),
        ("v0.2", "west", "shop", long, "west-a-service-with-a-rather-long-name-for-some-reas-seko11d75s"),
        ("v0.3", "west", "shop", long, "west-shop-73736d-a-service-with-a-rather-long-name-f-memhphqsug"),
        // The kept part would end with a `-`.
        (
            "v0.3",
            "west",
            "shop",
            &format!("{}-{}", "n".repeat(34), "m".repeat(20)),
            "west-shop-73736d-nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn-rucrmvpl31",
        ),
    ];
    for (scheme, prefix, namespace, service, wanted) in table {
        assert_eq!(name(scheme, prefix, namespace, service).as_str(), wanted, "{scheme} {service}");
    }
}

#[test]
fn a_scheme_is_read_and_written() {
    for text in ["v0.2", "v0.3", "{prefix}-{namespace}--{service}", "{service}", "{service}{service}-x"] {
        assert_eq!(text.parse::<Scheme>().expect(text).to_string(), text);
    }
    assert_eq!(Scheme::default().to_string(), "v0.2");
    assert_eq!(Scheme::V02.template().to_string(), "{prefix}-{service}-6d6972726f720a-{namespace}");
    assert_eq!(Scheme::V03.template().to_string(), "{prefix}-{namespace}-73736d-{service}");
}

#[test]
fn invalid_templates_are_reported() {
    let told = |text: &str| text.parse::<Scheme>().expect_err(text).to_string();
    for (text, part) in [
        ("", "no {service}"),
        ("v0.4", "'.'"),
        ("{prefix}-{namespace}", "no {service}"),
        ("{prefix}-{name}-{service}", "\"{name}\""),
        ("{prefix}-{service", "\"{service\""),
        ("{prefix}-service}", "\"}\""),
        ("{service}_{namespace}", "'_'"),
        ("{service}-É", "'É'"),
        ("{{service}}", "\"{{service}\""),
    ] {
        let told = told(text);
        assert!(told.contains(part), "{text}: {told}");
        assert!(told.contains(&format!("{text:?}")), "{told}");
    }
}

#[test]
fn a_name_that_is_no_label_is_refused() {
    let scheme: Scheme = "{service}-{prefix}".parse().expect("a template");
    let refused = local_name(&scheme, "west", "shop", "4web").expect_err("it begins with a digit");
    assert_eq!(refused.name, "4web-west");
    assert!(local_name(&"{service}-".parse().expect("a template"), "west", "shop", "web").is_err());
    // Also where it would be hashed.
    assert!(local_name(&scheme, "west", "shop", &"4".repeat(63)).is_err());
    // The fixed schemes begin with the prefix, so a service's name may begin with any character.
    assert_eq!(name("v0.2", "west", "shop", "4web").as_str(), "west-4web-6d6972726f720a-shop");
}

#[test]
fn a_prefix_is_a_label() {
    for prefix in ["west", "w", "eu-west-1", &"p".repeat(63)] {
        check_prefix(prefix).expect(prefix);
    }
    for prefix in ["", "1west", "-west", "west-", "West", "we.st", "wést", &"p".repeat(64)] {
        assert!(check_prefix(prefix).is_err(), "{prefix}");
    }
}

#[test]
fn names_that_collide_are_equal() {
    let one = name("v0.2", "west", "d", "b-6d6972726f720a-c");
    let other = name("v0.2", "west", "c-6d6972726f720a-d", "b");
    assert_eq!(one, other);
    let template = "{prefix}-{namespace}-{service}";
    assert_eq!(name(template, "west", "shop", "front-web"), name(template, "west", "shop-front", "web"));
}

proptest! {
    #[test]
    fn a_name_is_always_a_label(
        scheme in prop_oneof![Just("v0.2"), Just("v0.3"), Just("{prefix}-{namespace}--{service}"), Just("m{service}")],
        prefix in "[a-z]([-a-z0-9]{0,61}[a-z0-9])?",
        namespace in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
        service in "[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?",
    ) {
        prop_assert!(check_prefix(&prefix).is_ok());
        let scheme: Scheme = scheme.parse().expect("a scheme");
        let name = local_name(&scheme, &prefix, &namespace, &service).expect("a name");
        prop_assert!(is_label(name.as_str()), "{}", name);
        let full = scheme.template().fill(&prefix, &namespace, &service);
        prop_assert_eq!(name.is_hashed(), full.len() > MAX_NAME);
        if name.is_hashed() {
            let (kept, hash) = name.as_str().rsplit_once('-').expect("a hashed name has two parts");
            prop_assert!(full.starts_with(kept) && kept.len() <= KEPT_CHARACTERS && hash.len() == HASH_CHARACTERS, "{}", name);
        } else {
            prop_assert_eq!(name.as_str(), full);
        }
    }
}

#[test]
fn services_with_long_names_stay_apart() {
    let mut seen = HashMap::new();
    for n in 0..20_000 {
        // They differ only at the end, which is cut off.
        let service = format!("{}-{n}", "n".repeat(50));
        if let Some(other) = seen.insert(name("v0.3", "west", "shop", &service), service.clone()) {
            panic!("{service} and {other} have the same name");
        }
    }
}
