//! The examples of the documentation: the code blocks of its pages, and the commands in them with their documented output.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

/// A code block of a Markdown page.
#[derive(Clone, Debug)]
pub struct Block {
    /// The page, relative to the root of the repository.
    pub page: PathBuf,
    /// The line of the page on which the code begins.
    pub line: usize,
    /// The word behind the fence; a block that is indented instead is one of commands, as `sh` is.
    pub language: String,
    /// The code.
    pub text: String,
}

/// A command of a block, on as many lines as it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The command line, without its comment.
    pub command: String,
    /// What the block shows that it prints; empty where it shows nothing.
    pub output: String,
}

/// The pages whose examples are checked: the README, `docs`, and the READMEs of `deploy`.
///
/// # Panics
/// If the root is not that of the repository.
#[must_use]
pub fn pages(root: &Path) -> Vec<PathBuf> {
    let mut pages = markdown(&root.join("docs"));
    pages.extend(markdown(&root.join("deploy")));
    pages.sort();
    pages.insert(0, root.join("README.md"));
    pages
}

/// Every page in a folder and in those below it.
fn markdown(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{} cannot be read: {e}", folder.display()));
    let paths = entries.map(|entry| entry.expect("an entry can be read").path());
    let pages = |path: PathBuf| match path.is_dir() {
        true => markdown(&path),
        false => Vec::from_iter(path.extension().is_some_and(|extension| extension == "md").then_some(path)),
    };
    paths.flat_map(pages).collect()
}

/// Every code block of every page.
///
/// # Panics
/// If a page cannot be read, or a block does not end.
#[must_use]
pub fn blocks(root: &Path) -> Vec<Block> {
    let of_page = |page: PathBuf| {
        let text = fs::read_to_string(&page).unwrap_or_else(|e| panic!("{} cannot be read: {e}", page.display()));
        blocks_of(page.strip_prefix(root).unwrap_or(&page), &text)
    };
    pages(root).into_iter().flat_map(of_page).collect()
}

/// The code blocks of a page.
fn blocks_of(page: &Path, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    // An indented line continues a paragraph unless an empty line stands before it.
    let mut after_empty = true;
    while let Some((number, line)) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        let mut block = |line: usize, language: &str, code: Vec<&str>, indent: usize| {
            let code: Vec<&str> = code.iter().map(|line| line.get(indent..).unwrap_or("")).collect();
            let text = code.join("\n").trim_end().to_owned() + "\n";
            blocks.push(Block { page: page.to_owned(), line, language: language.to_owned(), text });
        };
        if let Some(language) = line.trim_start().strip_prefix("```") {
            let mut code = Vec::new();
            loop {
                let Some((_, line)) = lines.next() else { panic!("{}:{}: does not end", page.display(), number + 1) };
                if line.trim() == "```" {
                    break;
                }
                code.push(line);
            }
            block(number + 2, language.trim(), code, indent);
            after_empty = true;
        } else if after_empty && indent >= 4 {
            let mut code = vec![line];
            while let Some((_, line)) = lines.next_if(|(_, line)| line.trim().is_empty() || line.starts_with("    ")) {
                code.push(line);
            }
            block(number + 1, "sh", code, 4);
            after_empty = true;
        } else {
            after_empty = line.trim().is_empty();
        }
    }
    blocks
}

// === impl Block ===

impl Block {
    /// Its commands. In a `console` they stand behind `$ `, and the rest is what they print; in `sh` every line is one.
    #[must_use]
    pub fn commands(&self) -> Vec<Shown> {
        let mut shown: Vec<Shown> = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            let console = self.language == "console";
            let command = if console { line.strip_prefix("$ ") } else { Some(line) };
            match (command, shown.last_mut()) {
                (Some(command), _) => {
                    let mut command = without_comment(command).to_owned();
                    while let Some(begun) = command.strip_suffix('\\') {
                        let next = lines.next().map_or("", |line| without_comment(line).trim_start());
                        command = begun.to_owned() + next;
                    }
                    if !command.is_empty() {
                        shown.push(Shown { command, output: String::new() });
                    }
                }
                (None, Some(last)) => last.output += &format!("{line}\n"),
                (None, None) => panic!("{self}: a console begins with a command behind \"$ \""),
            }
        }
        shown
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.page.display(), self.line)
    }
}

/// A comment begins with a `#` at the beginning, or behind a space.
fn without_comment(line: &str) -> &str {
    let code = if line.starts_with('#') { "" } else { line.split(" #").next().unwrap_or(line) };
    code.trim_end()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "
# A page

    fanfare demo      # a comment

A paragraph that goes on
    with an indented line.

1. In a list

   ```yaml
   a:
     b: 1
   ```

```console
$ fanfare broadcast \\
    --endpoints 192.0.2.1:80
one
two
$ curl x
```
";

    #[test]
    fn fenced_and_indented_blocks_are_found_with_their_lines() {
        let blocks = blocks_of(Path::new("page.md"), PAGE);
        let found: Vec<_> = blocks.iter().map(|block| (block.line, &*block.language, &*block.text)).collect();
        assert_eq!(found[0], (4, "sh", "fanfare demo      # a comment\n"));
        assert_eq!(found[1], (12, "yaml", "a:\n  b: 1\n"));
        assert_eq!((found[2].0, found[2].1, found.len()), (17, "console", 3));
    }

    #[test]
    fn commands_come_without_comments_and_with_their_output() {
        let blocks = blocks_of(Path::new("page.md"), PAGE);
        let shown = |command: &str, output: &str| Shown { command: command.into(), output: output.into() };
        assert_eq!(blocks[0].commands(), [shown("fanfare demo", "")]);
        let broadcast = shown("fanfare broadcast --endpoints 192.0.2.1:80", "one\ntwo\n");
        assert_eq!(blocks[2].commands(), [broadcast, shown("curl x", "")]);
    }
}
