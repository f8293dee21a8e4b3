//! The program on the command line, with the one subject that is always available.

use std::{
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn loadtest(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest")).args(arguments).output().expect("it can be started");
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    output
}

fn run(out: &Path, scenarios: &[&str]) -> Value {
    let out_text = out.to_str().expect("the name of a temporary folder is text");
    let options = ["--subjects", "bare", "--rounds", "1", "--seconds", "0.2", "--warmup", "0.1", "--out", out_text];
    let mut arguments = vec!["run"];
    arguments.extend(options);
    arguments.extend(scenarios);
    loadtest(&arguments);
    results(out)
}

fn results(out: &Path) -> Value {
    let bytes = std::fs::read(out.join("results.json")).expect("a run leaves its results");
    serde_json::from_slice(&bytes).expect("they are JSON")
}

#[test]
fn a_run_measures_counts_every_copy_and_can_be_compared() {
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first");
    let results = run(&first, &["tiny-n3", "body-64k", "chunks-one"]);
    for (number, name) in ["tiny-n3", "body-64k", "chunks-one"].into_iter().enumerate() {
        let scenario = &results["scenarios"][number];
        assert_eq!(scenario["name"], name);
        let bare = &scenario["cases"][0];
        assert_eq!(bare["label"], "bare loop");
        let metrics = &bare["rounds"][0];
        assert!(metrics["requests"].as_f64().unwrap() > 0.0, "{bare}");
        assert!(metrics["cpu_us_per_request"].as_f64().unwrap() > 0.0, "{bare}");
        for wrong in ["errors", "lost_copies", "extra_copies"] {
            assert_eq!(metrics[wrong], 0.0, "{wrong}: {bare}");
        }
        assert_eq!(bare["summary"]["cpu_us_per_request"]["ratio"][0], 1.0);
    }
    assert!(std::fs::read_to_string(first.join("results.md")).unwrap().contains("| bare loop"));
    assert!(std::fs::read_to_string(first.join("chart.svg")).unwrap().starts_with("<svg"));
    let second = folder.path().join("second");
    run(&second, &["tiny-n3"]);
    let file = |folder: &Path| folder.join("results.json").display().to_string();
    let compared = loadtest(&["compare", &file(&first), &file(&second)]);
    let text = String::from_utf8(compared.stdout).unwrap();
    assert!(text.contains("## tiny-n3\n") && text.contains("## body-64k: only before"), "{text}");
}

#[test]
fn copies_that_do_not_arrive_are_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let lossy = folder.path().join("lossy");
    // Stands in for a proxy that answers by itself: it prints its address, and forwards nothing.
    let script = "#!/usr/bin/env python3\n\
        import http.server, sys\n\
        if '--version' in sys.argv:\n\
        \x20   sys.exit('lossy 1.2.3')\n\
        class Handler(http.server.BaseHTTPRequestHandler):\n\
        \x20   protocol_version = 'HTTP/1.1'\n\
        \x20   def do_GET(self):\n\
        \x20       self.send_response(200)\n\
        \x20       self.send_header('Content-Length', '0')\n\
        \x20       self.end_headers()\n\
        \x20   def log_message(self, *_):\n\
        \x20       pass\n\
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)\n\
        print('listening on http://127.0.0.1:%d to broadcast' % server.server_port, file=sys.stderr, flush=True)\n\
        server.serve_forever()\n";
    std::fs::write(&lossy, script).unwrap();
    std::fs::set_permissions(&lossy, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let out = folder.path().join("out");
    let binary = format!("lossy={}", lossy.display());
    let arguments = ["run", "tiny-n1", "--subjects", "fanfare", "--fanfare", &binary, "--rounds", "1"];
    let times = ["--seconds", "0.2", "--warmup", "0.1", "--out", out.to_str().unwrap()];
    loadtest(&[&arguments[..], &times].concat());
    let results = results(&out);
    assert_eq!(results["versions"]["lossy"], "1.2.3");
    let case = &results["scenarios"][0]["cases"][1];
    assert_eq!(case["label"], "lossy");
    let metrics = &case["rounds"][0];
    assert!(metrics["requests"].as_f64().unwrap() > 0.0, "{case}");
    assert_eq!(metrics["lost_copies"], metrics["requests"], "{case}");
    assert!(case["notes"].to_string().contains("LOSES COPIES"), "{case}");
}

#[test]
fn scenarios_may_be_a_list_and_a_bar_that_nobody_was_measured_for_is_not_met() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let missing = format!("missing={}", folder.path().join("missing").display());
    let arguments = ["run", "--scenario", "h2-n10-s1,tls-hand", "--subjects", "fanfare", "--fanfare", &missing];
    let times = ["--rounds", "1", "--seconds", "0.2", "--warmup", "0.1", "--out", out.to_str().unwrap()];
    loadtest(&[&arguments[..], &times].concat());
    let results = results(&out);
    let scenarios = results["scenarios"].as_array().unwrap();
    let names: Vec<&Value> = scenarios.iter().map(|scenario| &scenario["name"]).collect();
    assert_eq!(names, ["tls-handshakes", "h2-n10-s1"]);
    for scenario in scenarios {
        let metrics = &scenario["cases"][0]["rounds"][0];
        assert!(metrics["requests"].as_f64().unwrap() > 0.0, "{scenario}");
        assert_eq!((&metrics["errors"], &metrics["lost_copies"]), (&0.0.into(), &0.0.into()), "{scenario}");
        assert!(scenario["cases"][1]["missing"].is_string(), "{scenario}");
    }
    assert_eq!(scenarios[1]["bars"][0]["met"], Value::Null);
}

#[test]
fn a_quick_run_fails_where_a_ratio_is_worse_than_the_kept_one_and_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let ratios = folder.path().join("ratios.json");
    let kept = |ratio: f64| {
        let rows = serde_json::json!({"bare loop": {"ratio": ratio, "noise": 0.1}});
        let text = serde_json::json!({"date": "", "commit": "", "cpu": "", "ratios": {"tiny-n1": rows}}).to_string();
        std::fs::write(&ratios, text).unwrap();
    };
    let quick = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.args(["run", "tiny-n1", "--quick", "--subjects", "bare", "--rounds", "1", "--seconds", "0.2"]);
        command.args(["--warmup", "0.1", "--ratios"]).arg(&ratios).arg("--out").arg(folder.path().join("out"));
        command.output().expect("it can be started")
    };
    let error = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let missing = quick();
    assert!(!missing.status.success() && error(&missing).contains("write it with --keep"), "{missing:?}");
    // The bare loop is 1.00 times itself.
    kept(1.0);
    assert!(quick().status.success());
    kept(0.85);
    let worse = quick();
    let why = "tiny-n1, bare loop: 1.00 times the bare loop's CPU per request, kept is 0.85 with 0.10 of noise";
    assert!(!worse.status.success() && error(&worse).contains(why), "{worse:?}");
}
