//! Tests of the stanza's exact text, and of its patterns with the names of both schemes.

use super::*;
use crate::names::MAX_NAME;

fn text(scheme: &str, services: &[(&str, &str)], form: Form) -> String {
    let services: Vec<_> = services.iter().map(|(namespace, name)| ((*namespace).into(), (*name).into())).collect();
    let mirrored = Mirrored {
        remote: "west",
        scheme: &scheme.parse().expect("a scheme"),
        prefix: "west",
        namespace: "mirrors",
        domain: "cluster.west.",
        services: &services,
    };
    stanza(mirrored, "cluster.local", form).to_string()
}

/// The rules, each as its reason and the name that its question is rewritten to.
fn reasons(scheme: &str, services: &[(&str, &str)]) -> Vec<(String, String)> {
    let text = text(scheme, services, Form::Rules);
    let rules = text.split("# ").skip(2).map(|rule| {
        let (why, rest) = rule.split_once('\n').expect("a rule has lines");
        let to = rest.lines().find_map(|line| line.trim().strip_prefix("name regex ")).expect("a question");
        let to = to.split_once(" {1}").expect("a replacement").1;
        (why.to_owned(), to.split_once(".mirrors").map_or(to, |(name, _)| name).to_owned())
    });
    rules.collect()
}

#[test]
fn golden() {
    let long = format!("web-{}", "n".repeat(MAX_NAME - 4));
    let stanza = text("v0.2", &[("shop", "web"), ("shop", &long)], Form::Server);
    assert_eq!(
        stanza,
        r"# Services of west, mirrored here, under their own names: <service>.<namespace>.svc.cluster.west
cluster.west:53 {
    errors
    # its name is too long, and is hashed
    rewrite stop {
        name regex ^((?:[^.]+\.)*)LONG\.shop\.svc\.cluster\.west\.$ {1}HASHED.mirrors.svc.cluster.local.
        answer name ^((?:[^.]+\.)*)HASHED\.mirrors\.svc\.cluster\.local\.$ {1}LONG.shop.svc.cluster.west.
        answer value ^((?:[^.]+\.)*)HASHED\.mirrors\.svc\.cluster\.local\.$ {1}LONG.shop.svc.cluster.west.
    }
    # every other service
    rewrite stop {
        name regex ^((?:[^.]+\.)*)([^.]+)\.([^.]+)\.svc\.cluster\.west\.$ {1}west-{2}-6d6972726f720a-{3}.mirrors.svc.cluster.local.
        answer name ^((?:[^.]+\.)*)west-([^.]+)-6d6972726f720a-([^.]+)\.mirrors\.svc\.cluster\.local\.$ {1}{2}.{3}.svc.cluster.west.
        answer value ^((?:[^.]+\.)*)west-([^.]+)-6d6972726f720a-([^.]+)\.mirrors\.svc\.cluster\.local\.$ {1}{2}.{3}.svc.cluster.west.
    }
    kubernetes cluster.local
    cache 30
    loadbalance
}
"
        .replace("LONG", &long)
        .replace(
            "HASHED",
            names::local_name(&Scheme::V02, "west", "shop", &long).expect("a name").as_str()
        )
    );
}

#[test]
fn the_other_scheme_has_the_namespace_first() {
    let rules = text("v0.3", &[("shop", "web")], Form::Rules);
    assert_eq!(
        rules,
        r"# Services of west, mirrored here, under their own names: <service>.<namespace>.svc.cluster.west
# every other service
rewrite stop {
    name regex ^((?:[^.]+\.)*)([^.]+)\.([^.]+)\.svc\.cluster\.west\.$ {1}west-{3}-73736d-{2}.mirrors.svc.cluster.local.
    answer name ^((?:[^.]+\.)*)west-([^.]+)-73736d-([^.]+)\.mirrors\.svc\.cluster\.local\.$ {1}{3}.{2}.svc.cluster.west.
    answer value ^((?:[^.]+\.)*)west-([^.]+)-73736d-([^.]+)\.mirrors\.svc\.cluster\.local\.$ {1}{3}.{2}.svc.cluster.west.
}
"
    );
}

#[test]
fn a_name_without_namespace_and_service_has_its_own_rule() {
    let rule = |why: &str, to: &str| (why.to_owned(), to.to_owned());
    let general = |to: &str| rule("every other service", to);
    let strange = "b-6d6972726f720a-c";
    // One of the two has it in its namespace, and the expression takes the longest service.
    assert_eq!(reasons("v0.2", &[("d", strange), ("shop", "web")]), [general("west-{2}-6d6972726f720a-{3}")]);
    assert_eq!(
        reasons("v0.2", &[("c-6d6972726f720a-d", "b"), ("shop", "web")]),
        [
            rule("its name could be that of another one", "west-b-6d6972726f720a-c-6d6972726f720a-d"),
            general("west-{2}-6d6972726f720a-{3}")
        ]
    );
    assert_eq!(
        reasons("{prefix}-{namespace}-{service}", &[("shop", "web")]),
        [rule("the template does not tell namespace and service apart", "west-shop-web"), general("west-{3}-{2}")]
    );
    assert_eq!(
        reasons("{prefix}-{service}", &[("shop", "web")]),
        [rule("the template leaves the namespace out", "west-web")]
    );
    assert_eq!(reasons("{namespace}--{service}-x", &[("shop", "web")]), [general("{3}--{2}-x")]);
}

#[test]
fn where_namespace_and_service_do_not_show_the_questions_own_name_is_turned_back() {
    let rules = text("{prefix}-{namespace}-{service}", &[], Form::Rules);
    assert!(rules.contains("{1}west-{3}-{2}.mirrors.svc.cluster.local.\n    answer auto\n}"), "{rules}");
}

#[test]
fn a_service_that_cannot_be_mirrored_has_no_rule() {
    assert_eq!(reasons("{service}", &[("shop", "4web")]), []);
}
