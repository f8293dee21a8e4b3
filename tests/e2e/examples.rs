//! The outputs in the documentation are real: its commands are run and compared, except for varying parts.

use std::{collections::BTreeSet, io::Write as _, path::Path};

use serde_json::{Value, json};
use testkit::{
    client,
    docs::{Block, Shown, blocks},
    origin::{Gate, Origin, Reply},
};

use crate::{
    endpoints::bed::Bed as Peers,
    mirror::bed::{Bed as Mirrors, endpoint},
    process::{Fanfare, run},
};

/// The test that runs each command of the documentation with an output.
const RUN: [(&str, &str); 6] = [
    ("README.md", "curl http://127.0.0.1:4040/"),
    ("README.md", "curl http://127.0.0.1:4040/v1/state"),
    ("README.md", "curl http://127.0.0.1:8080/endpoints"),
    ("README.md", "fanfare mirror -dry-run ..."),
    ("docs/elections.md", "curl http://localhost:4040/"),
    ("docs/guarantees.md", "curl -i -X PURGE http://localhost:8080/logo.png"),
];

fn documented() -> Vec<Block> {
    blocks(Path::new(env!("CARGO_MANIFEST_DIR")))
}

/// The single block of a page that contains this text.
fn block(page: &str, text: &str) -> Block {
    let blocks = documented().into_iter().filter(|block| block.page == Path::new(page) && block.text.contains(text));
    let found: Vec<_> = blocks.collect();
    assert_eq!(found.len(), 1, "blocks of {page} with {text:?}");
    found.into_iter().next().expect("there is one")
}

/// The documented output of a command.
fn shown(page: &str, command: &str) -> String {
    assert!(RUN.contains(&(page, command)), "{command} is missing in the list of what is run");
    let shown =
        documented().into_iter().filter(|block| block.page == Path::new(page)).flat_map(|block| block.commands());
    let found: Vec<Shown> = shown.filter(|shown| shown.command == command && !shown.output.is_empty()).collect();
    assert_eq!(found.len(), 1, "{page}: {command} with its output");
    found.into_iter().next().expect("there is one").output
}

/// The form of a document: its keys in order, with texts and numbers of any value.
fn form(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            map.iter().map(|(key, value)| (key.clone(), form(value))).collect::<serde_json::Map<_, _>>().into()
        }
        Value::Array(list) => list.first().map(form).into_iter().collect(),
        Value::String(_) => "text".into(),
        Value::Number(_) => 0.into(),
        other => other.clone(),
    }
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn every_answer_that_is_shown_is_one_that_a_test_gets() {
    let shown: BTreeSet<(String, String)> = documented()
        .iter()
        .flat_map(|block| block.commands().into_iter().map(move |shown| (block.page.display().to_string(), shown)))
        .filter(|(_, shown)| !shown.output.is_empty() && !shown.command.starts_with("kubectl "))
        .map(|(page, shown)| (page, shown.command))
        .collect();
    assert_eq!(shown, RUN.map(|(page, command)| (page.to_owned(), command.to_owned())).into());
}

/// Runs the commands as documented, in a folder of their own, with other ports.
#[tokio::test]
async fn the_first_commands_with_tls_do_what_they_say() {
    let block = block("docs/tls.md", "openssl req");
    let commands: Vec<String> = block.commands().into_iter().map(|shown| shown.command).collect();
    let [make, serve, ask] = &commands[..] else { panic!("{commands:?}") };
    let folder = tempfile::tempdir().expect("a folder");
    let shell = async |command: &str| {
        let mut shell = tokio::process::Command::new("sh");
        let output = shell.args(["-c", command]).current_dir(folder.path()).output().await.expect("there is a shell");
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    shell(make).await;
    let origins = ["one", "two"].map(|_| Origin::start(Reply::ok("done")));
    let addresses = origins.each_ref().map(Origin::address);
    let file = |name: &str| folder.path().join(name).display().to_string();
    let serve = serve.replace("127.0.0.1:9001", &addresses[0].to_string());
    let serve = serve.replace("127.0.0.1:9002", &addresses[1].to_string());
    let words = shlex::split(&serve).expect("its quotes end");
    let here = |word: &String| if word.starts_with("tls.") { file(word) } else { word.clone() };
    let mut arguments: Vec<String> = words.iter().skip(1).map(here).collect();
    arguments.extend(["-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--threads=1"].map(str::to_owned));
    let fanfare = Fanfare::serve(&arguments).await;
    fanfare.wait_ready().await;
    let port = fanfare.address().port();
    let answer = shell(&ask.replace("localhost:8080", &format!("localhost:{port}"))).await;
    assert!(answer.contains(" 200") && answer.ends_with("done"), "{answer}");
    for origin in &origins {
        assert_eq!(origin.requests().len(), 1);
    }
}

#[tokio::test]
async fn the_first_picture_shows_an_answer_that_there_is() {
    let picture = block("README.md", "X-Broadcast-Result: ").text;
    let line = picture.lines().find_map(|line| line.split_once("X-Broadcast-Result: ")).expect("it is there").1;
    let gate = Gate::new();
    let origins = [Reply::new(204), Reply::new(204), Reply::new(204).hold(&gate)].map(Origin::start);
    let fanfare = Fanfare::broadcast(&origins.each_ref().map(Origin::address), &["--require", "majority"]).await;
    fanfare.wait_ready().await;
    let answer = client::request(fanfare.address(), "PURGE", "/logo.png", &[], b"").await.complete();
    assert_eq!(answer.status, 204);
    assert_eq!(answer.headers.get("x-broadcast-result"), Some(line.trim()), "{answer}");
    gate.release();
}

#[tokio::test]
async fn the_answer_to_a_request_that_is_deferred_is_the_one_that_is_shown() {
    let origins = [1, 2, 3].map(|_| Origin::start(Reply::new(204)));
    origins[2].stop_listening().await;
    let flags = ["--redeliver", "1h", "--on-deferred", "202"];
    let fanfare = Fanfare::broadcast(&origins.each_ref().map(Origin::address), &flags).await;
    fanfare.wait_ready().await;
    let answer = client::request(fanfare.address(), "PURGE", "/logo.png", &[], b"").await.complete();
    let page = shown("docs/guarantees.md", "curl -i -X PURGE http://localhost:8080/logo.png");
    let (first, fields) = page.split_once('\n').expect("a status line and fields");
    assert_eq!(first, format!("HTTP/1.1 {} {}", answer.status, answer.reason));
    for (name, value) in fields.lines().filter_map(|line| line.split_once(": ")) {
        let told = answer.headers.get(name).unwrap_or_else(|| panic!("no {name}: {answer}"));
        let same = if name == "X-Broadcast-Job" { told.len() == value.len() } else { told == value };
        assert!(same, "{name}: {told}");
    }
}

#[tokio::test]
async fn the_report_that_is_shown_is_the_one_that_is_sent() {
    let shown = parsed(&block("README.md", "\"nodes\"").text);
    let command = block("README.md", "application/vnd.broadcast+json").commands().remove(0).command;
    assert!(command.contains("-X PURGE") && command.contains("/logo.png"), "{command}");
    let never = Gate::new();
    let origins = [Reply::new(200), Reply::new(404), Reply::new(200).hold(&never)].map(Origin::start);
    let mut file = tempfile::NamedTempFile::with_suffix(".json").expect("a temporary file");
    let group = |(n, origin): (usize, &Origin)| {
        let labels = json!({"pod": format!("cache-{n}"), "zone": (["a", "b", "c"][n])});
        json!({"targets": [origin.address().to_string()], "labels": labels})
    };
    let groups: Value = origins.iter().enumerate().map(group).collect();
    file.write_all(groups.to_string().as_bytes()).expect("it can be written");
    let path = file.path().to_str().expect("a path of ASCII");
    let mut flags = vec!["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--endpoints-file", path];
    // As stated in README.md below the report.
    flags.extend(["--require", "majority", "--success", "PURGE=200,404", "--timeout", "1s"]);
    let fanfare = Fanfare::serve(flags).await;
    fanfare.wait_ready().await;
    let accept = [("Accept", "application/vnd.broadcast+json")];
    let answer = client::request(fanfare.address(), "PURGE", "/logo.png", &accept, b"").await.complete();
    // The parts that vary.
    let masked = |mut report: Value| {
        for key in ["id", "ts"] {
            report[key] = Value::Null;
        }
        report["snapshot"]["version"] = Value::Null;
        for result in report["results"].as_array_mut().expect("a list") {
            result["endpoint"] = Value::Null;
            result["ms"] = Value::Null;
        }
        // In the order of the pods, while endpoints are in the order of their ports.
        report["results"].as_array_mut().expect("a list").sort_by_key(|result| result["pod"].to_string());
        report
    };
    assert_eq!(masked(parsed(&answer.text())), masked(shown));
}

#[tokio::test]
async fn the_answers_of_an_election_have_the_form_that_is_shown() {
    let cluster = kubekit::cluster::shared().await;
    let namespace = cluster.namespace("elect").await;
    let account = crate::elect::candidate(&cluster, &namespace).await;
    let fanfare = crate::elect::elect(account.kubeconfig_path(), &namespace, "one", &["-label=false"]);
    let state = crate::elect::until_leading(&fanfare, true).await;
    let brief = crate::elect::json(&fanfare, "/").await;
    for (page, host) in [("README.md", "127.0.0.1"), ("docs/elections.md", "localhost")] {
        assert_eq!(form(&parsed(&shown(page, &format!("curl http://{host}:4040/")))), form(&brief), "{page}");
    }
    // It goes on with what is explained elsewhere.
    let text = shown("README.md", "curl http://127.0.0.1:4040/v1/state").replace(", ...}", "}");
    let state = form(&state);
    for (key, value) in form(&parsed(&text)).as_object().expect("an object") {
        assert_eq!(state.get(key), Some(value), "{key}");
    }
}

#[tokio::test]
async fn the_peers_of_a_pod_have_the_form_that_is_shown() {
    let bed = Peers::new("peers").await;
    let pod = |n: u8| {
        json!({"addresses": [format!("10.1.0.{n}")], "hostname": format!("web-{n}"), "nodeName": "node-a", "conditions": {"ready": true},
            "targetRef": {"kind": "Pod", "namespace": bed.namespace, "name": format!("web-{n}")}})
    };
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": bed.namespace, "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": [pod(4), pod(7)], "ports": [{"name": "http", "port": 8080}],
    });
    bed.cluster.apply_yaml(&slice.to_string()).await.expect("a valid slice");
    let (_fanfare, address) = bed.start("web", &[]).await;
    let answer =
        testkit::eventually!("the peers", client::get(address, "/endpoints").await, |answer| answer.status == 200);
    let shown = shown("README.md", "curl http://127.0.0.1:8080/endpoints");
    let (told, shown) = (parsed(&answer.complete().text()), parsed(&shown));
    assert_eq!(form(&told), form(&shown));
    assert_eq!(told["subsets"][0]["ports"], shown["subsets"][0]["ports"]);
}

#[tokio::test]
async fn a_dry_run_prints_what_is_shown() {
    let bed = Mirrors::start().await;
    bed.service("web", json!({})).await;
    bed.slice("web", "IPv4", &[endpoint("192.0.2.1")]).await;
    let printed = bed.mirror(&[bed.what(), bed.with_all_rights()], &["-dry-run"]).finish().await;
    let expected = shown("README.md", "fanfare mirror -dry-run ...");
    assert_eq!(printed.stdout.replace(&bed.there, "shop").replace(&format!("{}/", bed.here), "mirrors/"), expected);
}

#[tokio::test]
async fn the_corefile_that_is_shown_is_the_one_that_is_printed() {
    let page = "docs/mirroring.md";
    let command = block(page, "fanfare mirror -label-selector").commands().remove(0).command;
    let flags: Vec<&str> = command.split(' ').skip(2).collect();
    let printed = run([&["mirror", "coredns", "--offline"][..], &flags].concat()).await;
    assert_eq!((printed.code, printed.stdout), (Some(0), block(page, "rewrite stop {").text), "{}", printed.stderr);
}
