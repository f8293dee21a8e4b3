//! The command line itself: completions that a shell completes with, manual pages that a formatter reads, and help as a command.

use std::{path::Path, process::Stdio};

use testkit::{
    client,
    origin::{Origin, Reply},
};
use tokio::process::Command;

use crate::process::{Fanfare, finish_with_input, run};

/// What bash offers for the last of these words.
async fn completed(script: &Path, words: &[&str]) -> Vec<String> {
    let last = words.len() - 1;
    let quoted = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let before = words.get(last - 1).expect("the program itself stands before");
    let line = words.join(" ");
    let ask = format!(
        "source '{}' || exit 1
         compopt() {{ :; }}
         function=$(complete -p fanfare | sed -n 's/.* -F \\([^ ]*\\) .*/\\1/p')
         COMP_WORDS=({quoted}); COMP_CWORD={last}; COMP_LINE='{line}'; COMP_POINT={}
         \"$function\" fanfare '{}' '{before}'
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        line.len(),
        words[last],
    );
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile"]);
    let finished = finish_with_input(bash, &ask).await;
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{}", finished.stdout);
    finished.stdout.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[tokio::test]
async fn bash_completes_commands_flags_and_values() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let script = folder.path().join("fanfare.bash");
    let printed = run(["completions", "bash"]).await;
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    std::fs::write(&script, printed.stdout).expect("it can be written");
    assert_eq!(completed(&script, &["fanfare", "br"]).await, ["broadcast", "bridge"]);
    assert_eq!(completed(&script, &["fanfare", "mirror", "cor"]).await, ["coredns"]);
    assert_eq!(completed(&script, &["fanfare", "broadcast", "--requ"]).await, ["--require"]);
    assert_eq!(completed(&script, &["fanfare", "broadcast", "--access-log", ""]).await, ["off", "text", "json"]);
    assert_eq!(completed(&script, &["fanfare", "completions", "el"]).await, ["elvish"]);
    assert_eq!(completed(&script, &["fanfare", "broadcast", "--no-keep"]).await, ["--no-keepalive"]);
    std::fs::write(folder.path().join("fanfare.yaml"), "").expect("it can be written");
    let start = format!("{}/fan", folder.path().display());
    let files = completed(&script, &["fanfare", "run", "--config", &start]).await;
    assert!(files.contains(&format!("{}/fanfare.yaml", folder.path().display())), "{files:?}");
}

#[tokio::test]
async fn every_shell_gets_a_script_that_names_the_commands_and_flags() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let printed = run(["completions", shell]).await;
        assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""), "{shell}");
        for word in ["broadcast", "mirror", "completions", "upstream-san", "label-selector"] {
            assert!(printed.stdout.contains(word), "{shell}: {word}");
        }
    }
    let unknown = run(["completions", "tcsh"]).await;
    assert_eq!(unknown.code, Some(64));
    assert!(unknown.stderr.contains("fish"), "it says what there is: {}", unknown.stderr);
}

#[tokio::test]
async fn manual_pages_are_read_without_a_warning() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let pages = folder.path().join("man/man1");
    let written = run(["man".as_ref(), pages.as_os_str()]).await;
    assert_eq!((written.code, written.stderr.as_str()), (Some(0), ""), "{}", written.stdout);
    let groff = testkit::packages::program("groff").unwrap_or_else(|why| panic!("{why}"));
    let entries = std::fs::read_dir(&pages).expect("the folder was made");
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    for name in &names {
        let output = Command::new(&groff)
            .args(["-man", "-ww", "-Tascii", "-P-cbou", "-rHY=0"])
            .arg(pages.join(name))
            .output()
            .await;
        let output = output.expect("groff can be started");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.is_empty(), "{name}: {told}");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("SYNOPSIS"), "{name}: {text}");
        if name == "fanfare-broadcast.1" {
            assert!(text.contains("--require") && text.contains("FANFARE_REQUIRE"), "{text}");
        }
    }
    for name in ["fanfare.1", "fanfare-broadcast.1", "fanfare-mirror.1", "fanfare-mirror-coredns.1", "fanfare-check.1"]
    {
        assert!(names.iter().any(|page| page == name), "{name} is not among {names:?}");
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("it can be written");
    let refused = run(["man".as_ref(), file.as_os_str()]).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("cannot make"), "{}", refused.stderr);
}

#[tokio::test]
async fn help_is_a_command() {
    for (arguments, part) in [
        (&["help"][..], "completions"),
        (&["help", "broadcast"], "FANFARE_REQUIRE"),
        (&["help", "mirror", "coredns"], "--offline"),
    ] {
        let told = run(arguments).await;
        assert_eq!((told.code, told.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(told.stdout.contains(part), "{arguments:?}: {}", told.stdout);
    }
    assert_eq!(run(["help", "nonsense"]).await.code, Some(64));
}

#[tokio::test]
async fn variables_configure_a_process_and_misspelt_ones_are_warned_about() {
    let origin = Origin::start(Reply::ok("fine"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.arg("broadcast").envs([
        ("FANFARE_ENDPOINTS", origin.address().to_string().as_str()),
        ("FANFARE_INTERFACE", "127.0.0.1:0"),
        ("FANFARE_METRICS_INTERFACE", "127.0.0.1:0"),
        ("FANFARE_REQIURE", "any"),
        ("FANFARE_PORT", "tcp://10.0.0.1:80"),
        ("FANFARE_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("FANFARE_SERVICE_HOST", "10.0.0.1"),
    ]);
    let mut fanfare = Fanfare::spawn(command);
    fanfare.wait_listening().await;
    fanfare.wait_ready().await;
    assert_eq!(client::get(fanfare.address(), "/").await.status, 200);
    let log = fanfare.stderr.text();
    assert!(log.contains("FANFARE_REQIURE") && log.contains("did you mean FANFARE_REQUIRE?"), "{log}");
    assert!(!log.contains("FANFARE_PORT") && !log.contains("FANFARE_SERVICE_HOST"), "{log}");
}

/// Runs the binary with these for its output; its status, and what it wrote to standard error where that is a pipe.
fn finished(arguments: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    let output = command.output().expect("the binary can be started");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// A pipe that nobody reads.
fn without_a_reader() -> std::io::PipeWriter {
    std::io::pipe().expect("a pipe").1
}

/// What only prints something.
const PRINTING: [&[&str]; 5] =
    [&["--version"], &["help", "broadcast"], &["completions", "bash"], &["check", "--schema"], &["check", "--help"]];

#[test]
fn whoever_reads_the_output_may_go() {
    for arguments in PRINTING {
        let told = finished(arguments, without_a_reader(), Stdio::piped());
        assert_eq!(told, (Some(141), String::new()), "{arguments:?}: as if SIGPIPE had ended it");
    }
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    for arguments in PRINTING {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has it");
        let (code, told) = finished(arguments, full, Stdio::piped());
        assert!(
            code == Some(1)
                && told.contains("cannot write to standard output: ")
                && told.matches("No space left").count() == 1,
            "{arguments:?}: {code:?} {told}"
        );
    }
}

#[test]
fn where_nobody_reads_what_is_wrong_the_exit_status_says_it() {
    for (arguments, code) in [
        (&["check", "/nowhere"][..], 64),
        (&["check", "/dev/null"], 64),
        (&["broadcast", "--timeout=soon"], 64),
        (&["broadcast", "--endpoints=192.0.2.1:80", "--threads=999999999"], 64),
        (&["status", "--admin=127.0.0.1:1"], 1),
    ] {
        let told = finished(arguments, Stdio::null(), without_a_reader());
        assert_eq!(told.0, Some(code), "{arguments:?}");
    }
}
