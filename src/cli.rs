//! The command line: one subcommand per role, and errors about its arguments.

mod broadcast;
mod dashes;
mod discover;
mod flags;
mod mirror;
mod send;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{ArgMatches, Command, FromArgMatches as _, Parser};

pub(crate) use flags::Flags;
pub(crate) use mirror::CoreDns;
pub(crate) use send::{PASS, Send};

use crate::settings::{ROLES, Role, environment::Environment};

/// Help of `fanfare completions`: where each shell looks for it.
const COMPLETIONS: &str = "Prints the completions of a shell for command lines of fanfare

bash:        fanfare completions bash > ~/.local/share/bash-completion/completions/fanfare
zsh:         fanfare completions zsh > \"${fpath[1]}/_fanfare\"
fish:        fanfare completions fish > ~/.config/fish/completions/fanfare.fish
PowerShell:  fanfare completions powershell >> $PROFILE
elvish:      fanfare completions elvish >> ~/.config/elvish/rc.elv";

/// The command of the process.
#[derive(Debug)]
pub(crate) enum Task {
    /// One role, configured by flags.
    Serve(Flags),
    /// Print the configuration of CoreDNS for mirrors.
    CoreDns(CoreDns),
    /// One request to every endpoint.
    Send(Box<Send>),
    /// Show the state of a process.
    Status(Status),
    /// All roles of a file.
    Run(Run),
    /// Print the faults of a file.
    Check(Check),
    /// Print the completions of a shell.
    Completions(Completions),
    /// Write manual pages.
    Man(Man),
    /// Show a broadcast without anything installed.
    Demo(Demo),
}

/// Runs all roles of a configuration file, in one process.
///
/// SIGHUP or a changed file reloads routes and policies without dropping a request; a bad file changes nothing.
#[derive(Debug, Parser)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) file: File,
}

/// Prints every fault of a configuration file. Needs no network.
///
/// The exit status is 0 if the file can be used, and 64 if it cannot.
#[derive(Debug, Parser)]
pub(crate) struct Check {
    #[command(flatten)]
    file: File,
    /// Text, or JSON with the file, line, key and message of every fault
    #[arg(short, long, value_name = "text|json", default_value = "text", hide_possible_values = true)]
    pub(crate) output: Output,
    /// Print the JSON Schema of the file instead, for editors and other programs
    #[arg(long, conflicts_with_all = ["File", "output"])]
    pub(crate) schema: bool,
}

/// The format of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

// No doc comment: it would become that of the subcommand. The configuration file, named in one of two ways.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct File {
    /// The configuration file (YAML)
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
    /// The same as a flag
    #[arg(short, long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    config: Option<PathBuf>,
}

/// Shows the state of a process: routes and endpoints, watches, elections, exports, mirrors and pending deliveries
///
/// It reads from the admin listener (--metrics-interface), without TLS.
#[derive(Debug, Parser)]
pub(crate) struct Status {
    /// The admin listener of the process
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8081")]
    pub(crate) admin: String,
    /// File with the token for the listener (--metrics-tokens)
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
    /// Tables, or JSON
    #[arg(short, long, value_name = "table|json", default_value = "table", value_parser = table_or_json)]
    pub(crate) output: Output,
    /// Refresh every two seconds
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// Prints the completions of a shell for command lines of fanfare
#[derive(Debug, Parser)]
#[command(long_about = COMPLETIONS)]
pub(crate) struct Completions {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

/// Writes manual pages: fanfare.1, and one for each command
#[derive(Debug, Parser)]
pub(crate) struct Man {
    /// The folder, which is created if it is missing
    #[arg(value_name = "DIR", value_hint = clap::ValueHint::DirPath)]
    pub(crate) folder: PathBuf,
}

/// Shows a broadcast without anything installed: three origins, the broadcaster in front, a self-check, curl lines to try.
#[derive(Debug, Parser)]
pub(crate) struct Demo {
    /// Exit after the self-check, with a status other than 0 if it failed.
    #[arg(long)]
    pub(crate) once: bool,
    /// Where the broadcaster listens; port 0 selects a free one.
    #[arg(short, long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub(crate) interface: std::net::SocketAddr,
}

/// How tables are printed.
fn table_or_json(text: &str) -> Result<Output, String> {
    match text {
        "table" => Ok(Output::Text),
        "json" => Ok(Output::Json),
        _ => Err("use table or json".to_owned()),
    }
}

// === impl Check ===

impl Check {
    /// The path of the file; `-` is standard input.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }
}

// === impl File ===

impl File {
    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        self.file.as_deref().or(self.config.as_deref()).expect("the group requires one of them")
    }
}

/// Reads the command line.
///
/// # Errors
/// The text for the user: help, the version, or the faults of the arguments.
pub(crate) fn parse<T: Into<OsString> + Clone>(arguments: impl IntoIterator<Item = T>) -> Result<Task, clap::Error> {
    parse_with(arguments, &Environment::of_process())
}

pub(crate) fn parse_with<T: Into<OsString> + Clone>(
    arguments: impl IntoIterator<Item = T>,
    environment: &Environment,
) -> Result<Task, clap::Error> {
    let mut arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    if arguments.get(1).is_some_and(|first| is_flag_of_a_role(first)) {
        arguments.insert(1, "broadcast".into());
    }
    let role = arguments.get(1).and_then(|name| Role::named(name.to_str()?));
    if let Some(role) = role {
        arguments = dashes::normalise(role, arguments);
    }
    let matches = command().try_get_matches_from(arguments)?;
    task(&matches, environment)
}

/// Whether the command line begins with a flag that is not one of the program itself. The tool that `broadcast` replaces
/// has no subcommands, and its users are to change nothing but the image.
fn is_flag_of_a_role(first: &std::ffi::OsStr) -> bool {
    let first = first.as_encoded_bytes();
    first.starts_with(b"-") && !matches!(first, b"-h" | b"--help" | b"-V" | b"--version")
}

/// The complete command line.
pub(crate) fn command() -> Command {
    use clap::CommandFactory as _;
    let about = "Sends one HTTP request to every ready endpoint of a service and gives back one answer";
    Command::new("fanfare")
        .version(runtime::build_info::line())
        .about(about)
        .after_help("Try it now, with nothing installed:  fanfare demo")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(120)
        .subcommands(ROLES.iter().map(subcommand))
        .subcommand(send::command())
        .subcommand(Status::command().name("status"))
        .subcommand(Run::command().name("run"))
        .subcommand(check_command())
        .subcommand(Demo::command().name("demo"))
        .subcommand(Completions::command().name("completions"))
        .subcommand(Man::command().name("man"))
}

/// `fanfare check`, whose file may be standard input, and which needs none to print a schema.
fn check_command() -> Command {
    use clap::CommandFactory as _;
    let command = Check::command().name("check").mut_group("File", |group| group.required(false));
    command.mut_arg("file", |arg| arg.help("The configuration file (YAML); - is standard input"))
}

fn check(matches: &ArgMatches) -> Result<Check, clap::Error> {
    let check = Check::from_arg_matches(matches)?;
    if !check.schema && check.file.file.is_none() && check.file.config.is_none() {
        let message = "which file? Name it, write - for standard input, or --schema for the schema of all";
        return Err(check_command().error(clap::error::ErrorKind::MissingRequiredArgument, message));
    }
    Ok(check)
}

/// The subcommand of a role.
fn subcommand(role: &'static Role) -> Command {
    match role.name {
        "mirror" => mirror::command(role),
        _ => flags::command(role),
    }
}

fn task(matches: &ArgMatches, environment: &Environment) -> Result<Task, clap::Error> {
    let missing = || clap::Error::new(clap::error::ErrorKind::MissingSubcommand);
    let (name, matches) = matches.subcommand().ok_or_else(missing)?;
    match name {
        "send" => send::read(matches, environment).map(|send| Task::Send(Box::new(send))),
        "status" => Status::from_arg_matches(matches).map(Task::Status),
        "run" => Run::from_arg_matches(matches).map(Task::Run),
        "check" => check(matches).map(Task::Check),
        "demo" => Demo::from_arg_matches(matches).map(Task::Demo),
        "completions" => Completions::from_arg_matches(matches).map(Task::Completions),
        "man" => Man::from_arg_matches(matches).map(Task::Man),
        _ => {
            let role = Role::named(name).ok_or_else(missing)?;
            // The one subcommand that a role has: it takes the role's flags.
            let coredns = matches.subcommand().filter(|(name, _)| *name == mirror::COREDNS).map(|(_, matches)| matches);
            let matches = coredns.unwrap_or(matches);
            let mut flags = Flags::new(role, matches, environment);
            match role.name {
                "broadcast" => broadcast::amend(&mut flags, matches, environment),
                "discover" => discover::amend(&mut flags, environment),
                "mirror" => mirror::amend(&mut flags, environment),
                _ => {}
            }
            Ok(match coredns {
                Some(matches) => Task::CoreDns(mirror::coredns(flags, matches)),
                None => Task::Serve(flags),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn config(flags: &[&str]) -> Config {
        config_of("--endpoints=192.0.2.1:80", flags)
    }

    fn config_of(source: &str, flags: &[&str]) -> Config {
        let arguments = ["fanfare", "broadcast", source];
        match parse(arguments.iter().chain(flags).copied()) {
            Ok(Task::Serve(flags)) => flags.config().unwrap_or_else(|problems| panic!("{problems}")),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn flags_without_a_subcommand_broadcast() {
        let old = ["fanfare", "-s", "cache", "-p", "http", "--all-must-succeed=false"];
        assert!(matches!(parse(old), Ok(Task::Serve(_))));
        for (flag, kind) in
            [("--help", clap::error::ErrorKind::DisplayHelp), ("-V", clap::error::ErrorKind::DisplayVersion)]
        {
            assert_eq!(parse(["fanfare", flag]).map(|_| ()).unwrap_err().kind(), kind, "{flag}");
        }
    }

    #[test]
    fn help_is_a_command_too_and_a_file_needs_no_flag() {
        for arguments in [&["help"][..], &["help", "broadcast"], &["help", "mirror"], &["help", "check"]] {
            let told = parse(["fanfare"].iter().chain(arguments)).map(|_| ()).expect_err("it only tells");
            assert_eq!(told.kind(), clap::error::ErrorKind::DisplayHelp, "{arguments:?}");
        }
        assert!(parse(["fanfare", "help", "mirror"]).map(|_| ()).unwrap_err().to_string().contains("--svc-prefix"));
        for arguments in [&["/x"][..], &["--config", "/x"], &["-c", "/x"], &["--config=/x"]] {
            let Ok(Task::Check(check)) = parse(["fanfare", "check"].iter().chain(arguments)) else {
                panic!("{arguments:?}")
            };
            let Ok(Task::Run(run)) = parse(["fanfare", "run"].iter().chain(arguments)) else { panic!("{arguments:?}") };
            assert_eq!((check.path(), run.file.path()), (Path::new("/x"), Path::new("/x")), "{arguments:?}");
        }
        for arguments in [&[][..], &["/x", "--config=/y"], &["/x", "/y"]] {
            assert!(parse(["fanfare", "check"].iter().chain(arguments)).is_err(), "{arguments:?}");
        }
    }

    #[test]
    fn documented_defaults_are_the_real_ones() {
        let broadcast = Role::named("broadcast").expect("there is such a role");
        let all = broadcast.settings().filter(|setting| !setting.flag.is_empty() && !setting.default.is_empty());
        for setting in all {
            let flag = format!("--{}={}", setting.flag, setting.default);
            // Some have an effect only beside others.
            let source = match setting.flag {
                "endpoints-refresh" => "--endpoints-url=http://a.example/",
                _ => "--endpoints=192.0.2.1:80",
            };
            let base: &[&str] = match setting.section {
                "broadcast[].tls" => &["--tls-cert=/c", "--tls-key=/k", "--tls-client-ca=/ca"],
                "broadcast[].routes[].to.tls" => &["--upstream-tls"],
                "broadcast[].routes[].redeliver" => &["--redeliver=1h"],
                _ => &[],
            };
            assert_eq!(config_of(source, &[base, &[&flag]].concat()), config_of(source, base), "{flag}");
        }
    }

    #[test]
    fn flags_say_the_same_as_a_file() {
        let flags = config(&[
            "-i",
            ":8080",
            "-m",
            "localhost:0",
            "-t",
            "3s",
            "--require",
            "67%",
            "--success",
            "2xx",
            "--success",
            "PURGE=404",
            "--allow",
            "PURGE,BAN /cache/*",
            "--trust-forwarded",
            "10.0.0.0/8,2001:db8::/32",
            "--max-body",
            "1MiB",
            "--lenient-target",
            "--via-name",
            "edge",
            "--strip-prefix",
            "/api",
            "--host={authority}",
            "--set-header",
            "X-A: b",
            "--set-header",
            "X-C: d: e",
            "--add-header=X-F: g",
            "--remove-header",
            "Cookie",
            "--remove-header=X-H,X-I",
            "--set-response-header=Cache-Control: no-store",
            "--add-response-header=X-J: k",
            "--remove-response-header=Server",
            "--first-byte-timeout",
            "1s",
            "--no-report",
            "--keepalive=false",
            "--ready-no-endpoint",
            "--threads",
            "3",
        ]);
        let file = Config::parse(
            b"
admin: {listen: 127.0.0.1:0}
threads: 3
ready_no_endpoint: yes
broadcast:
  - listen: 0.0.0.0:8080
    keepalive: false
    allow: 'PURGE,BAN /cache/*'
    trust_forwarded: [2001:db8::/32, 10.0.0.0/8]
    lenient_target: true
    via_name: edge
    routes:
      - to: {endpoints: 192.0.2.1:80}
        timeout: 3s
        require: 67%
        success: [2xx, PURGE=404]
        max_body: 1048576
        first_byte_timeout: 1000ms
        report: false
        strip_prefix: /api
        host: '{authority}'
        headers:
          request: {set: {X-A: b, X-C: 'd: e'}, add: {X-F: [g]}, remove: [Cookie, X-H, X-I]}
          response: {set: {Cache-Control: no-store}, add: 'X-J: k', remove: Server}
",
        )
        .unwrap_or_else(|problems| panic!("{problems}"));
        let sorted = |mut config: Config| {
            config.proxy.listeners[0].trust_forwarded.sort();
            config
        };
        assert_eq!(sorted(flags), sorted(file));
    }

    fn broadcast(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, String> {
        let environment = environment.iter().copied().collect();
        match parse_with(["fanfare", "broadcast"].iter().chain(arguments).copied(), &environment) {
            Ok(Task::Serve(flags)) => flags.config().map_err(|problems| problems.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn variables_have_the_meaning_of_flags_which_take_precedence() {
        let variables = [
            ("FANFARE_ENDPOINTS", "192.0.2.1:80,192.0.2.2:80\n192.0.2.3:80"),
            ("FANFARE_REQUIRE", "2"),
            ("FANFARE_TIMEOUT", "3s"),
            ("FANFARE_ALLOW", "PURGE /a\nGET /b"),
            ("FANFARE_KEEPALIVE", "0"),
            ("FANFARE_TLS_CERT", "/a.pem\n/b.pem"),
            ("FANFARE_TLS_KEY", "/a.key\n/b.key"),
            ("FANFARE_MAX_BODY", ""),
        ];
        let flags = [
            "--endpoints=192.0.2.1:80,192.0.2.2:80",
            "--endpoints=192.0.2.3:80",
            "--require=2",
            "--timeout=3s",
            "--allow=PURGE /a",
            "--allow=GET /b",
            "--no-keepalive",
            "--tls-cert=/a.pem",
            "--tls-cert=/b.pem",
            "--tls-key=/a.key",
            "--tls-key=/b.key",
        ];
        assert_eq!(
            broadcast(&[], &variables).expect("it can be used"),
            broadcast(&flags, &[]).expect("it can be used")
        );
        let other = ["--require=any", "--keepalive", "--endpoints=192.0.2.9:80"];
        let mixed = broadcast(&other, &variables).expect("it can be used");
        let listener = &mixed.proxy.listeners[0];
        assert_eq!((listener.routes[0].policy.require.to_string().as_str(), listener.keepalive), ("any", true));
        assert_eq!(listener.routes[0].cluster.as_str(), "fixed:192.0.2.9:80");
    }

    #[test]
    fn a_wrong_value_names_its_variable() {
        let source = ("FANFARE_SERVICE", "shop/cache");
        for (name, value, flag) in [
            ("FANFARE_TIMEOUT", "soon", "--timeout"),
            ("FANFARE_KEEPALIVE", "maybe", "--keepalive"),
            ("FANFARE_TRUST_FORWARDED", "10.0.0.0/8,x", "--trust-forwarded"),
            ("FANFARE_METRICS_INTERFACE", "x", "--metrics-interface"),
        ] {
            let problems = broadcast(&[], &[source, (name, value)]).expect_err(name);
            assert!(problems.starts_with(&format!("{name} ({flag}): ")), "{problems}");
        }
        let problems = broadcast(&[], &[source, ("FANFARE_ALL_MUST_SUCCEED", "perhaps")]).expect_err("no boolean");
        assert!(problems.starts_with("FANFARE_ALL_MUST_SUCCEED: is neither"), "{problems}");
        let problems =
            broadcast(&["--timeout=soon"], &[source, ("FANFARE_TIMEOUT", "3s")]).expect_err("the flag counts");
        assert!(problems.starts_with("--timeout: "), "{problems}");
    }

    #[test]
    fn a_flag_that_tells_where_endpoints_come_from_replaces_a_variable_that_does() {
        let variables = [("FANFARE_SERVICE", "shop/cache"), ("FANFARE_PORT_NAME", "http")];
        let cluster = |arguments: &[&str], variables: &[(&str, &str)]| {
            let config = broadcast(arguments, variables).unwrap_or_else(|problems| panic!("{problems}"));
            config.proxy.listeners[0].routes[0].cluster.to_string()
        };
        assert_eq!(cluster(&[], &variables), "kube:shop/cache:http");
        assert_eq!(cluster(&["--endpoints=192.0.2.1:80"], &variables), "fixed:192.0.2.1:80");
        assert_eq!(cluster(&["--service=shop/other"], &variables), "kube:shop/other:http");
        let problems = broadcast(&[], &[variables[0], ("FANFARE_ENDPOINTS_DNS", "a.example:80")]).expect_err("two");
        assert!(problems.contains("FANFARE_SERVICE") && problems.contains("but 2 are given"), "{problems}");
        let both = [variables[0], ("FANFARE_ALL_MUST_SUCCEED", "false"), ("FANFARE_REQUIRE", "all")];
        assert!(broadcast(&[], &both).expect_err("they contradict each other").contains("FANFARE_ALL_MUST_SUCCEED"));
        for (flag, rule) in [("--require=2", "2"), ("--all-must-succeed", "all")] {
            let other = if rule == "2" { both[1] } else { ("FANFARE_REQUIRE", "any") };
            let config = broadcast(&[flag], &[variables[0], other]).expect("a flag outranks a variable");
            assert_eq!(config.proxy.listeners[0].routes[0].policy.require.to_string(), rule);
        }
    }

    #[test]
    fn every_flag_of_every_role_has_a_variable_that_its_help_names() {
        for role in ROLES {
            let help = subcommand(role).render_long_help().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
            for name in role.settings().filter_map(|setting| setting.variable()) {
                let named = [format!("[env: {name}]"), format!("[env: {name}, ")];
                assert!(named.iter().any(|named| help.contains(named)), "{}: {name}", role.name);
            }
        }
    }

    #[test]
    fn the_old_and_the_new_way_to_say_how_many() {
        let require = |flags: &[&str]| config(flags).proxy.listeners[0].routes[0].policy.require.to_string();
        assert_eq!(require(&[]), "all");
        for any in ["--all-must-succeed=false", "--no-all-must-succeed", "--require=any"] {
            assert_eq!(require(&[any]), "any", "{any}");
        }
        assert_eq!(require(&["--all-must-succeed"]), "all");
        assert_eq!(require(&["--all-must-succeed=false", "--require", "any"]), "any");
    }
}
