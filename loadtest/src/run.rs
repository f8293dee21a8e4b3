//! A run: every chosen scenario, in rounds, in each of which every subject has its turn.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::Context as _;

use crate::{
    chart, cli,
    cores::{self, Cores},
    load::h2load,
    machine::{self, Machine},
    metric, pages,
    protocols::{Certificate, Http},
    quick::{self, Ratios},
    results::{CaseResult, Results, ScenarioResult},
    scenario::{self, Case, Scenario, Work},
    subject::{Binary, Programs, Subject},
    table, turn,
};

/// Runs the chosen scenarios, prints the tables, and writes the files.
pub(crate) fn run(options: &cli::Run) -> anyhow::Result<()> {
    if options.quick {
        return run_quick(&quick::options(options));
    }
    let (results, out) = all(options)?;
    if options.markdown {
        pages::write(&results, &pages::all())?;
    }
    eprintln!("written to {}", out.display());
    Ok(())
}

/// A quick run. What seems worse is measured a second time before it is believed.
fn run_quick(options: &cli::Run) -> anyhow::Result<()> {
    let file = quick::file(options);
    let out = machine::target().join("loadtest/quick");
    let options = cli::Run { out: Some(options.out.clone().unwrap_or(out)), ..options.clone() };
    if options.keep {
        return Ratios::of(&all(&options)?.0).keep(&file);
    }
    // Before anything is measured.
    let kept = Ratios::read(&file)?;
    kept.compare_machine(&machine::Machine::this());
    let mut worse = kept.worse(&all(&options)?.0)?;
    if !worse.is_empty() {
        let mut again: Vec<String> = worse.iter().map(|worse| worse.scenario.clone()).collect();
        again.dedup();
        eprintln!("measuring {} again", again.join(", "));
        worse = kept.worse(&all(&cli::Run { scenarios: again, ..options })?.0)?;
    }
    let said: Vec<String> = worse.iter().map(ToString::to_string).collect();
    anyhow::ensure!(
        worse.is_empty(),
        "worse than what is kept in {}, twice in a row:\n  {}\nIf that is meant, keep the new ratios: run --quick --keep",
        file.display(),
        said.join("\n  "),
    );
    Ok(())
}

/// Every chosen scenario. Returns the results and the folder they are in.
fn all(options: &cli::Run) -> anyhow::Result<(Results, PathBuf)> {
    // Children inherit the limit, which the results record.
    runtime::limits::raise_open_files();
    let binaries: Vec<Binary> = options.fanfare.iter().map(|text| Binary::parse(text)).collect();
    let names = [options.scenarios.as_slice(), &options.more_scenarios].concat();
    let scenarios = scenario::choose(&names, &options.subjects, &binaries)?;
    // Concurrent runs share installed programs, and nothing else.
    let shared = machine::target().join("loadtest");
    let work = shared.join(format!("run-{}", std::process::id()));
    fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let certificate = Certificate::make(&work)?;
    let machine = Machine::this();
    let now = jiff::Zoned::now();
    let out = match &options.out {
        Some(out) => out.clone(),
        None => free_folder(&results_folder().join(format!("{}-{}", now.strftime("%Y-%m-%d"), machine.slug()))),
    };
    fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut results = Results {
        date: now.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        command: command(),
        commit: machine::commit(),
        machine,
        rounds: options.rounds(),
        seconds: options.seconds(),
        endpoints: format!("{:?}", options.endpoints).to_lowercase(),
        ..Results::default()
    };
    let mut programs = Programs::default();
    let (started, count) = (Instant::now(), scenarios.len());
    for (number, scenario) in scenarios.iter().enumerate() {
        eprintln!(
            "[{}/{count}, {:.0} s] {}: {}",
            number + 1,
            started.elapsed().as_secs_f64(),
            scenario.name,
            scenario.about
        );
        let places = Places { shared: &shared, work: &work, certificate: &certificate };
        let result = measure(options, scenario, &mut programs, &places, &mut results);
        print!("{}", table::scenario(&result));
        results.scenarios.push(result);
        // After each scenario, so that a run that is cut short leaves what it has.
        save(&out, &results)?;
    }
    fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
    eprintln!("{:.0} s", started.elapsed().as_secs_f64());
    Ok((results, out))
}

/// The folders of a run.
struct Places<'a> {
    /// The folder that all runs share.
    shared: &'a Path,
    work: &'a Path,
    certificate: &'a Certificate,
}

/// All rounds of one scenario.
fn measure(
    options: &cli::Run,
    scenario: &Scenario,
    programs: &mut Programs,
    places: &Places<'_>,
    results: &mut Results,
) -> ScenarioResult {
    let mut rows: Vec<(CaseResult, Option<PathBuf>)> = Vec::new();
    for case in &scenario.cases {
        let mut row = CaseResult { label: case.label(), against: against(scenario, case), ..CaseResult::default() };
        let tool = match (scenario.work, case.protocols.client) {
            (Work::Streams { .. }, Http::Two) => h2load::program().map(|_| ()),
            _ => Ok(()),
        };
        let program = match tool.and_then(|()| programs.get(&case.subject, places.shared)) {
            Ok(program) => {
                let version = || case.subject.version(&program);
                results.versions.entry(case.subject.to_string()).or_insert_with(version);
                Some(program)
            }
            Err(why) => {
                row.missing = Some(why);
                None
            }
        };
        rows.push((row, program));
    }
    for round in 0..options.rounds() {
        for (case, (row, program)) in scenario.cases.iter().zip(&mut rows) {
            let Some(program) = program else { continue };
            let shown = format!("  round {}/{} {}", round + 1, options.rounds(), row.label);
            match turn::turn(options, scenario, case, program, (places.work, places.certificate), round == 0) {
                Ok(outcome) => {
                    eprintln!("{shown}: {}", headline(scenario, &outcome.metrics));
                    outcome.notes.into_iter().for_each(|note| add_note(row, note));
                    row.rounds.push(Some(outcome.metrics));
                }
                Err(error) => {
                    eprintln!("{shown}: FAILED: {error:#}");
                    add_note(row, format!("a turn failed: {error:#}"));
                    row.rounds.push(None);
                }
            }
        }
    }
    let mut result = ScenarioResult {
        name: scenario.name.to_owned(),
        about: scenario.about.to_owned(),
        cores: Cores::deal(&cores::available(), turn::placement(options, scenario), 1).to_string(),
        columns: scenario.columns.iter().map(|column| (*column).to_owned()).collect(),
        chart: scenario.chart.map(str::to_owned),
        cases: rows.into_iter().map(|(row, _)| row).collect(),
        bars: Vec::new(),
    };
    result.summarise();
    let must = scenario.cases.iter().filter(|case| matches!(case.subject, Subject::Fanfare(_)));
    result.bars = must
        .flat_map(|case| scenario.bars.iter().map(move |bar| (case, bar)))
        .filter(|(case, bar)| bar.variant == case.variant)
        .map(|(case, bar)| bar.verdict(case, &result))
        .collect();
    for case in &mut result.cases {
        mark(case);
    }
    result
}

/// The row that a row is compared with besides the bare loop: another variant or, with several binaries of Fanfare, the first.
fn against(scenario: &Scenario, case: &Case) -> Option<String> {
    let first = || {
        let mut binaries = scenario.cases.iter().filter(|case| matches!(case.subject, Subject::Fanfare(_)));
        let first = &binaries.next()?.subject;
        let other = matches!(case.subject, Subject::Fanfare(_)) && case.subject != *first;
        other.then(|| Case { subject: first.clone(), ..case.clone() }.label())
    };
    case.against.map(|variant| case.label_of(variant)).or_else(first)
}

/// Adds notes to a row whose numbers would otherwise be misleading.
fn mark(row: &mut CaseResult) {
    let most = |key: &str| row.summary.get(key).map_or(0.0, |summary| summary.value.max);
    let (lost, errors, unsent) = (most("lost_copies"), most("errors"), most("unsent"));
    if lost > 0.0 {
        add_note(row, format!("LOSES COPIES: up to {lost:.0} in a round never reached an endpoint"));
    }
    if errors > 0.0 {
        add_note(row, format!("FAILS: up to {errors:.0} requests in a round had no good answer"));
    }
    if unsent > 0.0 {
        add_note(row, format!("CANNOT KEEP UP: up to {unsent:.0} requests in a round could never be sent"));
    }
}

fn add_note(row: &mut CaseResult, note: String) {
    if !row.notes.contains(&note) && row.notes.len() < 12 {
        row.notes.push(note);
    }
}

fn headline(scenario: &Scenario, metrics: &metric::Metrics) -> String {
    let shown = scenario.columns.iter().filter_map(|key| Some((metric::find(key)?, metrics.get(*key)?)));
    let shown = shown.filter(|(metric, value)| **value != 0.0 || metric.less_is_better == Some(false));
    shown.map(|(metric, value)| format!("{} {}", metric.title, metric.format(*value))).collect::<Vec<_>>().join(", ")
}

fn save(out: &Path, results: &Results) -> anyhow::Result<()> {
    let write = |name: &str, content: String| {
        let path = out.join(name);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))
    };
    write("results.json", serde_json::to_string(results)? + "\n")?;
    write("results.md", table::markdown(results))?;
    if let Some(chart) = chart::svg(results) {
        write("chart.svg", chart)?;
    }
    Ok(())
}

fn results_folder() -> PathBuf {
    machine::workspace().join("loadtest/results")
}

/// The folder, with a number appended if it exists already.
fn free_folder(folder: &Path) -> PathBuf {
    let numbered = |number: u32| PathBuf::from(format!("{}-{number}", folder.display()));
    let candidates = std::iter::once(folder.to_owned()).chain((2..1000).map(numbered));
    let mut free = candidates.skip_while(|candidate| candidate.exists());
    free.next().unwrap_or_else(|| folder.to_owned())
}

/// The command line, without the folders of this machine.
fn command() -> String {
    let arguments = std::env::args().skip(1).map(|argument| {
        let (label, path) = argument.split_once('=').map_or(("", argument.as_str()), |(label, path)| (label, path));
        let name =
            Path::new(path).file_name().filter(|_| path.contains('/')).map_or(path.into(), |n| n.to_string_lossy());
        if label.is_empty() { name.into_owned() } else { format!("{label}={name}") }
    });
    format!("cargo run --release -p loadtest -- {}", arguments.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_taken_gets_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = folder.path().join("run");
        assert_eq!(free_folder(&wanted), wanted);
        fs::create_dir(&wanted).unwrap();
        assert_eq!(free_folder(&wanted), folder.path().join("run-2"));
    }

    #[test]
    fn a_second_binary_is_compared_with_the_first() {
        let binaries = ["before=/a", "after=/b"].map(Binary::parse);
        let scenarios = scenario::choose(&["tiny-n1".into()], &["fanfare".into()], &binaries).unwrap();
        let rows = scenarios[0].cases.iter().map(|case| (case.label(), against(&scenarios[0], case)));
        let rows: Vec<_> = rows.collect();
        let row = |label: &str, other: Option<&str>| (label.to_owned(), other.map(str::to_owned));
        assert_eq!(rows, [row("bare loop", None), row("before", None), row("after", Some("before"))]);
    }

    #[test]
    fn failures_are_reported() {
        let metrics = metric::Metrics::from([("lost_copies".to_owned(), 3.0), ("errors".to_owned(), 0.0)]);
        let row = CaseResult { label: "x".into(), rounds: vec![Some(metrics)], ..CaseResult::default() };
        let mut result = ScenarioResult { cases: vec![row], ..ScenarioResult::default() };
        result.summarise();
        mark(&mut result.cases[0]);
        assert_eq!(result.cases[0].notes.len(), 1);
        assert!(result.cases[0].notes[0].starts_with("LOSES COPIES"));
    }
}
