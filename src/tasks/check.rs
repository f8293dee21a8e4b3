//! `fanfare check`: whether a file can be used and what is wrong with it, for people and for programs.

use std::{path::Path, process::ExitCode};

use runtime::files;
use serde::Serialize;

use super::{counted, unusable};
use crate::{
    UNUSABLE, cli,
    config::{Config, Fault, faults},
    console, settings,
};

/// What a check finds.
struct Found {
    /// What prevents that the file is used, and what it is a part of: the file, or what it names.
    faults: Vec<Fault>,
    /// Whether the faults are in files that it names.
    in_named_files: bool,
    warnings: Vec<Fault>,
    /// What it configures, if it can be used.
    summary: Option<String>,
}

/// The same for programs.
#[derive(Serialize)]
struct CheckReport<'a> {
    ok: bool,
    file: &'a str,
    faults: Vec<FaultInFile<'a>>,
    warnings: Vec<FaultInFile<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'a str>,
}

#[derive(Serialize)]
struct FaultInFile<'a> {
    file: &'a str,
    #[serde(flatten)]
    fault: &'a Fault,
}

/// Prints whether the file can be used.
pub(crate) fn print(arguments: &cli::Check) -> anyhow::Result<ExitCode> {
    if arguments.schema {
        console::print(&format!("{:#}\n", settings::schema::schema()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let path = arguments.path();
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let found = match read(path) {
        Ok(content) => check(&content),
        Err(error) => {
            let fault = Fault { line: None, key: String::new(), message: format!("cannot read {name}: {error}") };
            if arguments.output == cli::Output::Text {
                console::tell(format_args!("fanfare: {fault}"));
                return Ok(UNUSABLE.into());
            }
            Found { faults: vec![fault], in_named_files: false, warnings: Vec::new(), summary: None }
        }
    };
    match arguments.output {
        cli::Output::Text => found.print(&name),
        cli::Output::Json => found.print_json(&name),
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    match path == Path::new("-") {
        true => files::read_standard_input(files::MAX_BYTES),
        false => files::read_once(path, files::MAX_BYTES),
    }
}

fn check(content: &[u8]) -> Found {
    let config = match Config::read_text(content) {
        Ok(config) => config,
        Err(refused) => {
            return Found { faults: refused.0, in_named_files: false, warnings: Vec::new(), summary: None };
        }
    };
    let files = config.check_files();
    let mut warnings = faults(content, &config.warnings());
    warnings.extend(faults(content, &files.warnings));
    let faults = faults(content, &files.problems);
    let summary = faults.is_empty().then(|| summary(&config));
    Found { in_named_files: true, warnings, summary, faults }
}

// === impl Found ===

impl Found {
    fn print(&self, name: &str) -> anyhow::Result<ExitCode> {
        let Some(summary) = &self.summary else {
            let what = if self.in_named_files { format!("what {name} names") } else { name.to_owned() };
            return Ok(unusable(&what, &self.faults));
        };
        for warning in &self.warnings {
            console::tell(format_args!("warning: {warning}"));
        }
        console::print(&format!("ok\n{name}: {summary}\n"))?;
        Ok(ExitCode::SUCCESS)
    }

    fn print_json(&self, name: &str) -> anyhow::Result<ExitCode> {
        let report = CheckReport {
            ok: self.summary.is_some(),
            file: name,
            faults: self.faults.iter().map(|fault| FaultInFile { file: name, fault }).collect(),
            warnings: self.warnings.iter().map(|fault| FaultInFile { file: name, fault }).collect(),
            summary: self.summary.as_deref(),
        };
        console::print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?;
        Ok(if report.ok { ExitCode::SUCCESS } else { UNUSABLE.into() })
    }
}

/// What the file configures, role by role.
fn summary(config: &Config) -> String {
    let routes = config.proxy.listeners.iter().map(|listener| listener.routes.len()).sum();
    let services = config.endpoints.as_ref().map_or(0, |endpoints| endpoints.services.len());
    let remotes = config.mirror.as_ref().map_or(0, |mirror| mirror.remotes.len());
    let roles: [(&str, &[(usize, &str)]); 6] = [
        (
            "broadcast",
            &[
                (config.proxy.listeners.len(), "listener"),
                (routes, "route"),
                (config.targets.len(), "source of endpoints"),
            ],
        ),
        ("elect", &[(config.elect.len(), "election")]),
        ("discover", &[(config.discover.len(), "export")]),
        ("bridge", &[(config.bridge.len(), "bridge")]),
        ("endpoints", &[(services, "service")]),
        ("mirror", &[(remotes, "remote")]),
    ];
    let told = roles.iter().filter(|(_, counts)| counts[0].0 > 0).map(|(role, counts)| {
        let counts: Vec<String> = counts.iter().copied().map(counted).collect();
        format!("{role}: {}", counts.join(", "))
    });
    told.collect::<Vec<_>>().join("; ")
}
