//! The commands that are about a file or need nothing: `run`, `check`, `demo`, `completions` and `man`.

use std::path::{Path, PathBuf};

use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser, error::ErrorKind};

/// Help of `fanfare completions`: where each shell looks for it.
const COMPLETIONS: &str = "Prints the completions of a shell for command lines of fanfare

bash:        fanfare completions bash > ~/.local/share/bash-completion/completions/fanfare
zsh:         fanfare completions zsh > \"${fpath[1]}/_fanfare\"
fish:        fanfare completions fish > ~/.config/fish/completions/fanfare.fish
PowerShell:  fanfare completions powershell >> $PROFILE
elvish:      fanfare completions elvish >> ~/.config/elvish/rc.elv";

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
pub(super) fn table_or_json(text: &str) -> Result<Output, String> {
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

/// `fanfare check`, whose file may be standard input, and which needs none to print a schema.
pub(super) fn check() -> Command {
    let command = Check::command().name("check").mut_group("File", |group| group.required(false));
    command.mut_arg("file", |arg| arg.help("The configuration file (YAML); - is standard input"))
}

pub(super) fn read_check(matches: &ArgMatches) -> Result<Check, clap::Error> {
    let read = Check::from_arg_matches(matches)?;
    if !read.schema && read.file.file.is_none() && read.file.config.is_none() {
        let message = "which file? Name it, write - for standard input, or --schema for the schema of all";
        return Err(self::check().bin_name("fanfare check").error(ErrorKind::MissingRequiredArgument, message));
    }
    Ok(read)
}
