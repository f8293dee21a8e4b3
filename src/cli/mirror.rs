//! Rules for the flags of `fanfare mirror` that are not in the table of settings, and `fanfare mirror coredns`.

use std::path::PathBuf;

use clap::{Arg, ArgAction, ArgMatches, Command};
use mirror::coredns::Form;
use serde_yaml::Value;

use super::flags::{self, Flags};
use crate::settings::{Role, environment::Environment, mirror as settings, process::LEADER_ELECT};

/// The subcommand that prints a part of a Corefile.
pub(super) const COREDNS: &str = "coredns";

/// The variables of the token, of the replaced tool and of its successor.
const TOKEN_VARIABLES: [&str; 2] = ["KSM_REMOTE_SERVICE_ACCOUNT_TOKEN", "SSM_REMOTE_SERVICE_ACCOUNT_TOKEN"];

/// The arguments of `fanfare mirror coredns`.
#[derive(Debug)]
pub(crate) struct CoreDns {
    /// The mirrors: those of the flags, unless there is a file.
    pub(crate) flags: Flags,
    /// The file.
    pub(crate) config: Option<PathBuf>,
    /// The part that is printed.
    pub(crate) form: Form,
    /// Contact no cluster, and omit rules that depend on its services.
    pub(crate) offline: bool,
}

/// The subcommand, with its subcommand `coredns`.
pub(super) fn command(role: &'static Role) -> Command {
    let with_flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
    let coredns = flags::command(role)
        .name(COREDNS)
        .about("Prints the configuration of CoreDNS for mirrored services")
        .next_help_heading("Output")
        .arg(
            with_flag("config", "Configuration file with the section mirror, instead of flags")
                .value_name("PATH")
                .value_parser(clap::value_parser!(PathBuf)),
        )
        .arg(with_flag("rules", "Only the rewrite rules, for a server block that is there").action(ArgAction::SetTrue))
        .arg(
            with_flag("offline", "Contact no cluster: without rules for services with hashed or ambiguous names")
                .action(ArgAction::SetTrue),
        );
    flags::command(role).args_conflicts_with_subcommands(true).subcommand(coredns)
}

/// Adds the variable of the token, and a remote cluster, so that missing settings are reported by their flags.
pub(super) fn amend(flags: &mut Flags, environment: &Environment) {
    flags.set_default(&settings::SVC_PREFIX, Value::Null);
    if let Some(variable) = TOKEN_VARIABLES.iter().find(|name| environment.get(name).is_some()) {
        flags.set_default(&settings::REMOTE_TOKEN_ENV, (*variable).into());
    }
    if flags.is_on(&settings::DRY_RUN) {
        // It writes nothing, not even the Lease.
        flags.set(&LEADER_ELECT, false.into());
    }
}

/// Reads the arguments of that subcommand.
pub(super) fn coredns(flags: Flags, matches: &ArgMatches) -> CoreDns {
    CoreDns {
        flags,
        config: matches.get_one("config").cloned(),
        form: if matches.get_flag("rules") { Form::Rules } else { Form::Server },
        offline: matches.get_flag("offline"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::Task, config::mirror::MirrorConfig};

    fn task(arguments: &[&str], environment: &[(&str, &str)]) -> Task {
        let environment = environment.iter().copied().collect();
        crate::cli::parse_with(["fanfare", "mirror"].iter().chain(arguments).copied(), &environment)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    fn parse(arguments: &[&str], environment: &[(&str, &str)]) -> Result<MirrorConfig, String> {
        let Task::Serve(flags) = task(arguments, environment) else { panic!("it is to serve") };
        flags.config().map(|config| config.mirror.expect("it mirrors")).map_err(|problems| problems.to_string())
    }

    fn shown(arguments: &[&str], environment: &[(&str, &str)]) -> serde_json::Value {
        let config = parse(arguments, environment).unwrap_or_else(|problems| panic!("{problems}"));
        serde_json::to_value(config).expect("it can be shown")
    }

    const LEAST: [&str; 3] = ["-label-selector=mirror=true", "-svc-prefix", "west"];

    fn with_least(arguments: &[&'static str]) -> Vec<&'static str> {
        LEAST.iter().chain(arguments).copied().collect()
    }

    #[test]
    fn the_flags_of_the_tool_it_replaces_are_taken_as_go_takes_them() {
        let all = [
            "-kube-config=/here",
            "-target-kube-config",
            "/there",
            "--label-selector=mirror=true",
            "-log-level=warn",
            "-mirror-ns=mirrors",
            "-resync-period=90m",
            "-svc-prefix=west",
            "-svc-sync=false",
        ];
        let shown = shown(&all, &[]);
        let remote = &shown["remotes"][0];
        assert_eq!(remote["access"]["kubeconfig"]["path"], "/there");
        assert_eq!(
            (&remote["mirror"]["selector"], &remote["mirror"]["prefix"]),
            (&"mirror=true".into(), &"west".into())
        );
        assert_eq!((&remote["namespace"], &remote["mirror"]["sync"]), (&"mirrors".into(), &false.into()));
        assert_eq!((&shown["resync"], &shown["listen"]), (&"1h30m0s".into(), &"0.0.0.0:8080".into()));
        let url =
            ["-remote-api-url=10.0.0.1:6443", "-remote-ca-url=https://ca.example", "-remote-sa-token-path=/token"];
        let server = &super::tests::shown(&with_least(&url), &[])["remotes"][0]["access"]["server"];
        assert_eq!(server["url"], "https://10.0.0.1:6443/", "without a scheme, as client-go takes it");
        assert_eq!(
            (&server["trust"]["url"]["url"], &server["token"]["file"]),
            (&"https://ca.example/".into(), &"/token".into())
        );
    }

    #[test]
    fn variables_say_the_same_and_flags_outrank_them() {
        let variables = [
            ("KSM_LABEL_SELECTOR", "mirror=true"),
            ("SSM_SVC_PREFIX", "east"),
            ("KSM_SVC_PREFIX", "west"),
            ("SSM_MIRROR_NS", "mirrors"),
            ("KSM_TARGET_KUBE_CONFIG", "/there"),
            ("KSM_RESYNC_PERIOD", "1m"),
            ("KSM_SVC_SYNC", "F"),
            ("KSM_KUBE_CONFIG", ""),
        ];
        let remote = &shown(&[], &variables)["remotes"][0];
        assert_eq!((&remote["mirror"]["prefix"], &remote["namespace"]), (&"west".into(), &"mirrors".into()));
        assert_eq!(remote["mirror"]["sync"], false, "as Go reads truth");
        let remote = &shown(&["-svc-prefix=north", "-svc-sync"], &variables)["remotes"][0];
        assert_eq!((&remote["mirror"]["prefix"], &remote["mirror"]["sync"]), (&"north".into(), &true.into()));
    }

    #[test]
    fn the_token_stands_in_a_file_or_else_in_its_variable() {
        let url = with_least(&["-remote-api-url=https://x"]);
        let token = |arguments: &[&str], environment: &[(&str, &str)]| {
            shown(arguments, environment)["remotes"][0]["access"]["server"]["token"].clone()
        };
        assert_eq!(token(&url, &[]), "none");
        for variable in TOKEN_VARIABLES {
            let environment = [(variable, "s3cret")];
            assert_eq!(token(&url, &environment)["variable"], variable, "and not what is in it");
            let with_file = [&url[..], &["-remote-sa-token-path=/token"]].concat();
            assert_eq!(token(&with_file, &environment)["file"], "/token");
        }
    }

    #[test]
    fn missing_values_are_reported_by_flag() {
        let problems = parse(&[], &[]).expect_err("nothing is given");
        for flag in ["--label-selector: is missing", "--svc-prefix: is missing", "--target-kube-config: is missing"] {
            assert!(problems.contains(flag), "{problems}");
        }
        let problems = parse(&with_least(&["-remote-api-url=https://x", "-names=x"]), &[]).expect_err("no template");
        assert!(problems.contains("--names: \"x\" is neither v0.2 nor v0.3"), "{problems}");
    }

    #[test]
    fn coredns_takes_the_same_flags_and_its_own() {
        let arguments = [&["coredns", "--rules"][..], &LEAST, &["-target-kube-config=/x"]].concat();
        let Task::CoreDns(coredns) = task(&arguments, &[]) else { panic!("that is another task") };
        assert_eq!((coredns.form, coredns.offline, &coredns.config), (Form::Rules, false, &None));
        assert!(coredns.flags.config().is_ok());
        let Task::CoreDns(coredns) = task(&["coredns", "--config", "/file", "--offline"], &[]) else {
            panic!("that is another task")
        };
        assert_eq!((coredns.form, coredns.offline, coredns.config), (Form::Server, true, Some("/file".into())));
    }

    #[test]
    fn a_dry_run_takes_part_in_no_election() {
        let flags = with_least(&["-target-kube-config=/x", "-leader-elect", "-dry-run"]);
        let Task::Serve(flags) = task(&flags, &[]) else { panic!("it is to serve") };
        let config = flags.config().unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(config.leader_elect, None);
        assert!(config.mirror.expect("it mirrors").dry_run);
    }

    #[test]
    fn documented_defaults_are_the_real_ones() {
        let words = [
            "target-context",
            "remote-ca-url-trust",
            "remote-token-env",
            "remote-name",
            "mirror-ns",
            "global-ns",
            "remote-domain",
            "kube-config",
        ];
        let own = Role::named("mirror").expect("there is such a role");
        let own = own.settings().filter(|setting| setting.section.starts_with("mirror") && !setting.default.is_empty());
        for setting in own.filter(|setting| !words.contains(&setting.flag) && setting.section != "mirror.global") {
            let flag = format!("-{}={}", setting.flag, setting.default);
            let base = with_least(&["-target-kube-config=/x"]);
            let given: Vec<&str> = base.iter().copied().chain([flag.as_str()]).collect();
            assert_eq!(shown(&given, &[]), shown(&base, &[]), "{flag}");
        }
    }
}
