//! Runs the guides: the programs that they name read their files, and their commands are run.

mod grpc;
mod prometheus;
mod varnish;

use std::{net::SocketAddr, path::Path};

use tempfile::TempDir;
use testkit::docs::{Block, blocks};

use crate::process::Fanfare;

/// A page of `docs/guides`.
pub(crate) struct Guide {
    page: String,
    blocks: Vec<Block>,
    folder: TempDir,
}

impl Guide {
    pub(crate) fn named(name: &str) -> Self {
        let page = format!("docs/guides/{name}.md");
        let all = blocks(Path::new(env!("CARGO_MANIFEST_DIR")));
        let blocks = all.into_iter().filter(|block| block.page == Path::new(&page)).collect();
        Self { page, blocks, folder: tempfile::tempdir().expect("a temporary folder can be made") }
    }

    /// The one block with this text, with other texts in the place of some: each of them must be there.
    pub(crate) fn file(&self, with: &str, replaced: &[(&str, &str)]) -> String {
        let found: Vec<&Block> = self.blocks.iter().filter(|block| block.text.contains(with)).collect();
        assert_eq!(found.len(), 1, "blocks of {} with {with:?}", self.page);
        replace(&found[0].text, replaced, &self.page)
    }

    /// Fanfare with the file of the guide, listening on a free port and sending to these endpoints instead of `target`.
    pub(crate) async fn fanfare(&self, listen: &str, target: &str, endpoints: &[SocketAddr]) -> Fanfare {
        let list = endpoints.iter().map(|address| format!("'{address}'")).collect::<Vec<_>>().join(", ");
        let instead = match target.strip_suffix(", protocol: h2}") {
            Some(_) => format!("{{endpoints: [{list}], protocol: h2}}"),
            None => format!("{{endpoints: [{list}]}}"),
        };
        let text = self.file("broadcast:", &[(listen, "127.0.0.1:0"), (target, &instead)]);
        let file = self.folder.path().join("fanfare.yaml");
        let admin = "admin: {listen: '127.0.0.1:0'}\naccess_log: text\n";
        std::fs::write(&file, format!("{admin}{text}")).expect("it can be written");
        let fanfare = Fanfare::serve(["run".as_ref(), "--config".as_ref(), file.as_os_str()]).await;
        fanfare.wait_ready().await;
        fanfare
    }

    /// Runs the commands with curl in order, sent to this address instead of `host`, and returns what they print.
    pub(crate) async fn curl(&self, host: &str, address: SocketAddr) -> Vec<String> {
        let commands = self.blocks.iter().filter(|block| block.language == "sh").flat_map(Block::commands);
        let mut printed = Vec::new();
        for command in commands.map(|shown| shown.command).filter(|command| command.contains("curl ")) {
            let command = replace(&command, &[(host, &address.to_string())], &self.page);
            let mut shell = tokio::process::Command::new("sh");
            let output = shell.args(["-c", &command]).output().await.expect("there is a shell");
            assert!(output.status.success(), "{command}: {output:?}");
            printed.push(String::from_utf8(output.stdout).expect("text"));
        }
        assert!(!printed.is_empty(), "{} shows how to see that it works", self.page);
        printed
    }
}

fn replace(text: &str, replaced: &[(&str, &str)], page: &str) -> String {
    replaced.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{page}: {from:?} is not in {text}");
        text.replace(from, to)
    })
}

#[test]
fn every_guide_is_run_by_a_test_and_ends_with_how_to_see_that_it_works() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let list = std::fs::read_to_string(folder.join("docs/guides/README.md")).expect("the list is there");
    let sources = ["grpc", "prometheus", "varnish"].map(|name| folder.join(format!("tests/e2e/guides/{name}.rs")));
    let tests: String = sources.iter().map(|path| std::fs::read_to_string(path).expect("a test")).collect();
    for entry in std::fs::read_dir(folder.join("docs/guides")).expect("the folder is there") {
        let name = entry.expect("an entry").file_name().into_string().expect("ASCII");
        let Some(guide) = name.strip_suffix(".md").filter(|guide| *guide != "README") else { continue };
        assert!(tests.contains(&format!("Guide::named(\"{guide}\")")), "no test runs {name}");
        assert!(list.contains(&format!("({name})")), "{name} is not in the list");
        let text = std::fs::read_to_string(folder.join("docs/guides").join(&name)).expect("a guide");
        let last = text.lines().rfind(|line| line.starts_with("## "));
        assert_eq!(last, Some("## Check the result"), "{name}");
    }
}
