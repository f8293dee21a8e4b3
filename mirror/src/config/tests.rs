//! Tests of valid and invalid configurations of mirrors.

use super::*;

fn two() -> Config {
    let remotes =
        vec![Remote::new("west", "west", "mirror=true", "m"), Remote::new("east", "east", "mirror=true", "m")];
    Config { remotes, ..Config::default() }
}

fn fields(config: &Config) -> Vec<String> {
    config.check().expect_err("it is wrong").0.into_iter().map(|invalid| invalid.field).collect()
}

#[test]
fn the_defaults_are_valid() {
    two().check().expect("nothing is wrong");
}

#[test]
fn every_problem_is_told_with_its_place() {
    let mut config = two();
    config.workers = 0;
    config.remotes[0].prefix = "-west".into();
    config.remotes[0].selector = " ".into();
    config.remotes[1].namespace = "Mirrors".into();
    config.remotes[1].namespaces = vec!["shop".into(), "shop".into()];
    config.remotes[1].hints = BTreeMap::from([("a".into(), Vec::new())]);
    config.remotes[1].stale = Stale::Ttl(Duration::ZERO);
    let expected = [
        "workers",
        "remotes[0].prefix",
        "remotes[0].selector",
        "remotes[1].namespace",
        "remotes[1].namespaces",
        "remotes[1].hints",
        "remotes[1].stale",
    ];
    assert_eq!(fields(&config), expected);
    assert_eq!(fields(&Config::default()), ["remotes"]);
}

#[test]
fn indistinguishable_remotes_are_refused() {
    let mut config = two();
    config.remotes[1].prefix = "west".into();
    config.remotes[1].name = "west".into();
    assert_eq!(fields(&config), ["remotes[1].name", "remotes[1].prefix"]);
    config.remotes[1].namespace = "other".into();
    assert_eq!(fields(&config), ["remotes[1].name"]);
    config.remotes[1].name = "east".into();
    config.global = Some(Global { prefix: "west".into(), ..Global::new("global", "m") });
    assert_eq!(fields(&config), ["global.prefix"]);
}

#[test]
fn policies_are_read_as_they_are_written() {
    for text in ["keep", "not-ready", "delete", "ttl=10m0s"] {
        assert_eq!(text.parse::<Stale>().expect("it is one").to_string(), text);
    }
    for text in ["", "ttl", "ttl=", "ttl=10", "Keep"] {
        assert!(text.parse::<Stale>().is_err(), "{text}");
    }
    for text in ["10/30%", "5", "unlimited", "0"] {
        assert_eq!(text.parse::<MaxDelete>().expect("it is one").to_string(), text);
    }
    for text in ["", "-1", "10/30", "10/101%", "many"] {
        assert!(text.parse::<MaxDelete>().is_err(), "{text}");
    }
}

#[test]
fn a_share_takes_both_limits_and_a_number_is_a_limit_of_its_own() {
    for (lost, known, permitted) in
        [(0, 0, true), (10, 10, true), (11, 11, false), (30, 100, true), (31, 100, false), (11, 1000, true)]
    {
        assert_eq!(MaxDelete::default().permits(lost, known), permitted, "{lost} of {known}");
    }
    assert!(MaxDelete::Count(5).permits(5, 5));
    assert!(!MaxDelete::Count(5).permits(6, 1000));
    assert!(!MaxDelete::Count(0).permits(1, 1000));
    assert!(MaxDelete::Unlimited.permits(usize::MAX, 1));
}

#[test]
fn keys_of_kubernetes_and_our_own_are_never_copied() {
    let mut all = Propagation::all();
    all.exclude = vec!["team/*".into(), "exact".into()];
    for key in ["app", "exactly", "example.com/x", "kubernetes.iox/y"] {
        assert!(all.copies(key), "{key}");
    }
    let reserved = ["app.kubernetes.io/instance", "kubernetes.io/x", "k8s.io/x", "a.k8s.io/x", "mirrored-svc"];
    for key in reserved.into_iter().chain(["mirror-svc-prefix-sync", "mirror.fanfare/uid", "team/a", "exact"]) {
        assert!(!all.copies(key), "{key}");
    }
    assert!(!Propagation::none().copies("app"));
}

#[test]
fn labels_of_deployment_tools_are_copied_only_if_they_are_named() {
    let tools = ["argocd.argoproj.io/instance", "kustomize.toolkit.fluxcd.io/name", "kapp.k14s.io/app"];
    for key in tools.into_iter().chain(["meta.helm.sh/release-name", "objectset.rio.cattle.io/hash"]) {
        assert!(!Propagation::all().copies(key), "{key}");
        let named = Propagation { include: vec![key.to_owned()], exclude: Vec::new() };
        assert!(named.copies(key), "{key}");
    }
    let domain = Propagation { include: vec!["argocd.argoproj.io/*".into()], exclude: Vec::new() };
    assert!(domain.copies("argocd.argoproj.io/instance"));
    assert!(Propagation::all().copies("argoproj.io/x"), "nobody prunes by this");
}

#[test]
fn a_label_opts_in_by_key_or_by_value() {
    let labels = BTreeMap::from([("global".to_owned(), "true".to_owned())]);
    for (label, opted_in) in [("global", true), ("global=true", true), ("global=false", false), ("other", false)] {
        assert_eq!(Global::new(label, "m").opted_in(&labels), opted_in, "{label}");
    }
}

#[test]
fn shown_values_read_back() {
    let shown = serde_json::to_value(two()).expect("it can be shown");
    assert_eq!(shown["resync"], "1h0m0s");
    let remote = &shown["remotes"][0];
    assert_eq!(
        (&remote["stale"], &remote["scheme"], &remote["max_delete"]),
        (&"keep".into(), &"v0.2".into(), &"10/30%".into())
    );
}
