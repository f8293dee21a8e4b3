//! Checks command lines of the documentation, parsed as the programs do.

use std::{collections::HashMap, fs, path::Path};

use super::root;
use crate::{
    cli::{self, Task},
    settings::{ROLES, Role, environment::Environment},
};

/// Reads the commands of a page in order.
#[derive(Default)]
pub(super) struct Reader {
    /// The last arguments of each role, for which `...` stands.
    shown: HashMap<String, Vec<String>>,
}

/// Programs whose arguments are not checked.
const OTHERS: [&str; 17] = [
    "jq",
    "echo",
    "helm",
    "systemctl",
    "base64",
    "mkdir",
    "for",
    "do",
    "done",
    "perf",
    "apt-get",
    "openssl",
    "h2load",
    "grep",
    "strip",
    "stat",
    "readelf",
];

/// The options of curl that are used, and whether they take a value.
const CURL: [(&str, bool); 10] = [
    ("-s", false),
    ("-i", false),
    ("-N", false),
    ("-X", true),
    ("-H", true),
    ("-d", true),
    ("--data-binary", true),
    ("--cacert", true),
    ("--cert", true),
    ("--key", true),
];

/// The verbs of kubectl.
const KUBECTL: [&str; 8] = ["get", "label", "run", "create", "apply", "rollout", "port-forward", "exec"];

/// The separators of commands in a line.
const BETWEEN: [&str; 4] = ["|", "&", "&&", ";"];

/// The words of a command before `>` and the like.
fn without_redirections(words: &[String]) -> &[String] {
    let end = words.iter().position(|word| [">", ">>", "<"].contains(&word.as_str()));
    &words[..end.unwrap_or(words.len())]
}

impl Reader {
    /// Checks a line.
    pub(super) fn check(&mut self, line: &str) -> Result<(), String> {
        let words = shlex::split(line).ok_or("its quotes do not end")?;
        words
            .split(|word| BETWEEN.contains(&word.as_str()))
            .filter(|words| !words.is_empty())
            .try_for_each(|words| self.command(without_redirections(words)))
    }

    fn command(&mut self, words: &[String]) -> Result<(), String> {
        let variable = |word: &&String| {
            word.split_once('=').is_some_and(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        };
        let variables = words.iter().take_while(variable).count();
        for word in &words[..variables] {
            let name = word.split('=').next().unwrap_or(word);
            let of_a_flag =
                ROLES.iter().flat_map(Role::settings).any(|setting| setting.variable().as_deref() == Some(name));
            if !of_a_flag && !is_read_by_a_test(name) {
                return Err(format!("no test reads {name}"));
            }
        }
        let Some((program, arguments)) = words[variables..].split_first() else { return Ok(()) };
        let environment = words[..variables].iter().filter_map(|word| word.split_once('=')).collect();
        match program.as_str() {
            "fanfare" | "/fanfare" | "target/release/fanfare" => self.fanfare(arguments, &environment),
            "cargo" => self.cargo(arguments),
            "curl" => curl(arguments),
            "kubectl" => self.kubectl(arguments),
            other if OTHERS.contains(&other) => Ok(()),
            other => Err(format!("nobody knows how to check {other}")),
        }
    }

    /// Parses the arguments as the binary does, up to the checked configuration.
    fn fanfare(&mut self, arguments: &[String], environment: &Environment) -> Result<(), String> {
        let role = arguments.first().filter(|name| Role::named(name).is_some());
        let mut full: Vec<&str> = Vec::new();
        for argument in arguments {
            match (argument.as_str(), role) {
                ("...", Some(role)) => {
                    let shown =
                        self.shown.get(role).ok_or_else(|| format!("no command of {role} before tells what ... is"))?;
                    full.extend(shown.iter().map(String::as_str));
                }
                (other, _) => full.push(other),
            }
        }
        let task = cli::parse_with(["fanfare"].iter().chain(&full).copied(), environment);
        let config = match &task {
            Ok(Task::Serve(flags)) => flags.config(),
            Ok(Task::Send(send)) => send.broadcaster("pass").config(),
            Ok(Task::CoreDns(arguments)) if arguments.config.is_none() => arguments.flags.config(),
            Ok(Task::Check(check)) if check.schema => return Ok(()),
            Ok(Task::Run(_) | Task::Check(_)) => {
                let path = match &task {
                    Ok(Task::Run(run)) => run.file.path(),
                    Ok(Task::Check(check)) => check.path(),
                    _ => unreachable!("it is one of these"),
                };
                let shown = [Path::new("fanfare.yaml"), Path::new("-")].contains(&path);
                return if shown { Ok(()) } else { Err(format!("{} is not the file that is shown", path.display())) };
            }
            Ok(_) => return Ok(()),
            Err(error) if !error.use_stderr() => return Ok(()),
            Err(error) => return Err(error.to_string()),
        };
        config.map_err(|problems| problems.to_string())?;
        if let Some(role) = role.filter(|_| !arguments.iter().any(|argument| argument == "...")) {
            self.shown.insert(role.clone(), arguments[1..].to_vec());
        }
        Ok(())
    }

    /// Checks that packages, targets and modules exist, and the arguments of our binary.
    fn cargo(&mut self, arguments: &[String]) -> Result<(), String> {
        let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
        let (own, rest) = (&arguments[..end], arguments.get(end + 1..).unwrap_or_default());
        let subcommand = own.first().map_or("", String::as_str);
        if !["run", "test", "bench", "build", "deny"].contains(&subcommand) {
            return Err(format!("nobody knows how to check cargo {subcommand}"));
        }
        let value =
            |flag: &str| own.iter().position(|word| word == flag).and_then(|at| own.get(at + 1)).map(String::as_str);
        let package = value("-p").unwrap_or("fanfare");
        let folder = if package == "fanfare" { root().to_owned() } else { root().join(package) };
        if !folder.join("Cargo.toml").exists() {
            return Err(format!("there is no package {package}"));
        }
        if let Some(bench) = value("--bench").filter(|bench| !folder.join(format!("benches/{bench}.rs")).exists()) {
            return Err(format!("{package} has no benchmark {bench}"));
        }
        for module in own.iter().filter(|word| word.contains("::")) {
            let file = format!("{}.rs", module.replace("::", "/"));
            let places = ["tests/e2e", "tests/it", "src"].map(|place| folder.join(place).join(&file));
            if !places.iter().any(|place| place.exists()) {
                return Err(format!("{package} has no tests {module}"));
            }
        }
        if subcommand == "run" && package == "fanfare" { self.fanfare(rest, &Environment::default()) } else { Ok(()) }
    }

    /// Checks that the named objects exist in `deploy`, and a command of ours that runs in a pod.
    fn kubectl(&mut self, arguments: &[String]) -> Result<(), String> {
        let value = |flag: &str| arguments.iter().position(|word| word == flag).and_then(|at| arguments.get(at + 1));
        let verb = arguments.iter().find(|word| KUBECTL.contains(&word.as_str()));
        let verb = verb.ok_or_else(|| format!("nobody knows what kubectl {} does", arguments.join(" ")))?;
        if let Some(folder) = value("-k").filter(|folder| !root().join(folder).join("kustomization.yaml").exists()) {
            return Err(format!("kustomize finds nothing in {folder}"));
        }
        let of_a_kind = |word: &&String| ["deployment/", "statefulset/"].iter().any(|kind| word.starts_with(kind));
        for name in arguments.iter().filter(of_a_kind).filter_map(|word| word.split('/').nth(1)) {
            if !deployed().contains(&format!("name: {name}\n")) {
                return Err(format!("deploy has nothing called {name}"));
            }
        }
        if let Some(name) = value("generic").filter(|name| !deployed().contains(name.as_str())) {
            return Err(format!("nothing in deploy uses the Secret {name}"));
        }
        match arguments.iter().position(|word| word == "--") {
            Some(at) if verb == "exec" => self.command(&arguments[at + 1..]),
            _ => Ok(()),
        }
    }
}

/// Checks that its options are known, and that there is one URL.
fn curl(arguments: &[String]) -> Result<(), String> {
    let mut arguments = arguments.iter();
    let mut urls = 0;
    while let Some(argument) = arguments.next() {
        match CURL.iter().find(|(option, _)| option == argument) {
            Some((_, true)) => drop(arguments.next()),
            Some(_) => {}
            None if argument.starts_with('-') => return Err(format!("nobody knows what {argument} of curl does")),
            None => urls += 1,
        }
    }
    if urls == 1 {
        Ok(())
    } else {
        Err(if urls == 0 { "there is no URL" } else { "there are several URLs" }.to_owned())
    }
}

/// The text of every manifest.
fn deployed() -> String {
    files(&root().join("deploy"), "yaml")
        .iter()
        .map(|path| fs::read_to_string(path).expect("a manifest can be read"))
        .collect()
}

/// Whether a test or a test harness reads this variable.
fn is_read_by_a_test(name: &str) -> bool {
    let folders = ["tests", "mirror/tests", "controlplane/tests", "testkit/src"];
    let mut files = folders.iter().flat_map(|folder| files(&root().join(folder), "rs"));
    files.any(|path| fs::read_to_string(path).expect("a test can be read").contains(&format!("\"{name}\"")))
}

/// The files below a folder with this extension.
fn files(folder: &Path, extension: &str) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{} cannot be read: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files(&path, extension),
            false => Vec::from_iter(path.extension().is_some_and(|e| e == extension).then_some(path)),
        })
        .collect()
}
