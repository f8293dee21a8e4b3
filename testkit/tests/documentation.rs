//! The documentation as a whole: links lead somewhere, the book has every page, and troubleshooting knows every answer that is made up.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

/// Folders that hold no documentation of ours.
const LEFT_OUT: [&str; 3] = ["target", ".git", "corpus"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the root is there")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{} cannot be read: {e}", path.display()))
}

/// Every file below a folder with this extension.
fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let path = entry.expect("it can be listed").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_symlink() || LEFT_OUT.contains(&name) {
            continue;
        }
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|other| other == extension) {
            found.push(path);
        }
    }
}

/// The lines of a page outside of its code blocks.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter(move |(_, line)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    })
}

/// A line without text between backticks.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect::<Vec<_>>().join("`")
}

/// The targets of a page's links and pictures, each with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in prose(text) {
        let line = without_code(line);
        for rest in line.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            found.push((number + 1, target.split(' ').next().unwrap_or_default().to_owned()));
        }
    }
    found
}

/// The anchors of a page, as GitHub and mdBook make them of its headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings =
        prose(text).filter(|(_, line)| line.starts_with('#')).map(|(_, line)| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading.to_lowercase();
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
            let anchor: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
            let times = seen.entry(anchor.clone()).or_default();
            *times += 1;
            if *times == 1 { anchor } else { format!("{anchor}-{}", *times - 1) }
        })
        .collect()
}

/// A path without `..` and `.` in it.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
        plain
    })
}

/// The fault of a link of a page.
fn fault(page: &Path, target: &str) -> Option<String> {
    if ["http://", "https://", "mailto:"].iter().any(|scheme| target.starts_with(scheme)) {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let folder = page.parent().expect("a page is in a folder");
    let file = if path.is_empty() { page.to_owned() } else { plain(&folder.join(path)) };
    if !file.exists() {
        return Some("there is no such file".to_owned());
    }
    let anchor = anchor?;
    (!anchors(&read(&file)).contains(anchor)).then(|| format!("{} has no heading #{anchor}", file.display()))
}

#[test]
fn every_link_leads_somewhere() {
    let root = root();
    let mut pages = Vec::new();
    files(&root, "md", &mut pages);
    assert!(pages.len() > 20, "{pages:?}");
    let mut faults = Vec::new();
    let mut count = 0;
    for page in &pages {
        for (line, target) in links(&read(page)) {
            count += 1;
            let place = format!("{}:{line}: {target}", page.strip_prefix(&root).unwrap_or(page).display());
            faults.extend(fault(page, &target).map(|fault| format!("{place}: {fault}")));
        }
    }
    assert!(count > 100, "{count} links");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_link_that_leads_nowhere_is_told() {
    let page = root().join("README.md");
    assert_eq!(
        links("[a](b.md) `[c](d)` ![e](f.svg \"t\")\n```\n[g](h)\n```"),
        [(1, "b.md".into()), (1, "f.svg".into())]
    );
    for good in ["docs/metrics.md", "#try-it", "docs/configuration.md#fanfare-endpoints", "https://example.com/x"] {
        assert_eq!(fault(&page, good), None, "{good}");
    }
    for bad in ["docs/nothing.md", "#nothing", "docs/metrics.md#nothing"] {
        assert!(fault(&page, bad).is_some(), "{bad}");
    }
}

#[test]
fn the_book_has_every_page_of_the_documentation_once() {
    let docs = root().join("docs");
    let summary = read(&docs.join("SUMMARY.md"));
    let listed: Vec<PathBuf> = links(&summary).into_iter().map(|(_, target)| plain(&docs.join(target))).collect();
    let mut pages = Vec::new();
    files(&docs, "md", &mut pages);
    pages.retain(|page| !page.ends_with("SUMMARY.md"));
    let set: BTreeSet<PathBuf> = listed.iter().cloned().collect();
    assert_eq!(set.len(), listed.len(), "a page is there twice");
    assert_eq!(set, pages.into_iter().collect());
}

/// The first cells of the rows below a heading, without backticks.
fn rows(text: &str, heading: &str) -> BTreeSet<String> {
    let (_, section) = text.split_once(heading).unwrap_or_else(|| panic!("there is no {heading}"));
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|---"));
    rows.skip(1).filter_map(|row| row.split('|').nth(1)).map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
}

/// Code without its comments and its tests.
fn code(path: &Path) -> String {
    let text = read(path);
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The words that a file maps to with `=> "..."` in the function `as_str`.
fn named(path: &Path) -> BTreeSet<String> {
    let code = code(path);
    let (_, function) = code.split_once("fn as_str").expect("it names its variants");
    let function = function.split("\n    }\n").next().unwrap_or_default();
    function.split("=> \"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

#[test]
fn troubleshooting_has_every_answer_that_is_made_up_every_error_and_every_outcome() {
    let source = root().join("proxy/src");
    let text = read(&root().join("docs/troubleshooting.md"));
    assert_eq!(rows(&text, "## By error type"), named(&source.join("proxy_error.rs")));
    assert_eq!(rows(&text, "## By outcome"), named(&source.join("outcome.rs")));
    // The files that choose statuses of answers. Sizes that look like a status are excluded.
    let mut places = Vec::new();
    for folder in ["request", "connection", "control"] {
        files(&source.join(folder), "rs", &mut places);
    }
    let further = [
        "connection.rs",
        "control.rs",
        "outcome.rs",
        "request.rs",
        "config/policy.rs",
        "http/request.rs",
        "exchange/answer.rs",
        "exchange/gather.rs",
    ];
    places.extend(further.map(|file| source.join(file)));
    let mut statuses = BTreeSet::new();
    for place in places.iter().filter(|place| !place.to_string_lossy().contains("/tests")) {
        // A range is no status.
        let code = code(place).replace("500..", "");
        let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
        let is_status = |word: &&str| word.len() == 3 && word.parse::<u16>().is_ok_and(|n| (400..512).contains(&n));
        statuses.extend(words.filter(is_status).map(str::to_owned));
    }
    assert_eq!(rows(&text, "## By status"), statuses);
}
