//! A headless Chromium that shows one page, driven by its own protocol (CDP) over a pair of pipes.

use std::{
    collections::HashMap,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::unix::pipe,
    sync::oneshot,
};

use crate::{
    consumers::{installed, wheels::axe},
    eventually::{scaled, within_time},
    process::{Group, Mark},
};

/// How long an answer of the browser may take: starting it, or laying out a large page, takes its time on a busy machine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// A browser with one page. It ends with this value.
pub struct Browser {
    commands: tokio::sync::Mutex<pipe::Sender>,
    shared: Arc<BrowserMessages>,
    next: AtomicU64,
    /// The session with the page.
    session: String,
    _group: Group,
    _child: Child,
    _folder: TempDir,
}

/// What the browser has said.
#[derive(Default)]
struct BrowserMessages {
    answers: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    /// Messages on the console that are warnings or errors, and what went wrong without one.
    problems: Mutex<Vec<String>>,
    /// What the page has asked for.
    requests: Mutex<Vec<String>>,
}

// === impl Browser ===

impl Browser {
    /// Starts it, with an empty page that is this large.
    ///
    /// # Panics
    /// Where it is not installed or does not come up, with the reason.
    pub async fn start(width: u32, height: u32) -> Self {
        let program = installed("chromium-headless-shell");
        let folder = tempfile::tempdir().expect("a temporary folder");
        // Commands come on the third descriptor and answers go to the fourth: a shell puts the pipes there.
        let mut command = Command::new("sh");
        command.args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1"]).arg(program);
        command.args(["--remote-debugging-pipe", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
        command.args(["--disable-background-networking", "--no-proxy-server", "--hide-scrollbars"]);
        if rustix::process::geteuid().is_root() {
            // It refuses to be run by root otherwise; what it shows is ours.
            command.arg("--no-sandbox");
        }
        command.arg(format!("--user-data-dir={}", folder.path().display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mark = Mark::on(&mut command);
        let mut child = command.spawn().expect("a shell can be started");
        let group = Group::led_by(child.id(), mark);
        let (stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        let commands = pipe::Sender::from_owned_fd(stdin.into()).expect("the end of a pipe that is written to");
        let answers = pipe::Receiver::from_owned_fd(stdout.into()).expect("the end of a pipe that is read");
        let shared = Arc::<BrowserMessages>::default();
        tokio::spawn(read(answers, shared.clone()));
        let mut browser = Self {
            commands: tokio::sync::Mutex::new(commands),
            shared,
            next: AtomicU64::new(1),
            session: String::new(),
            _group: group,
            _child: child,
            _folder: folder,
        };
        let target = browser.send("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.send("Target.attachToTarget", attach).await;
        browser.session = attached["sessionId"].as_str().expect("a session").to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.send(&format!("{domain}.enable"), json!({})).await;
        }
        browser.resize(width, height).await;
        browser
    }

    /// Sends a command of the protocol; tells its result.
    ///
    /// # Panics
    /// Where the browser is gone or refuses the command.
    pub async fn send(&self, method: &str, parameters: Value) -> Value {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({"id": id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        let (answer, answered) = oneshot::channel();
        self.shared.answers.lock().insert(id, answer);
        let bytes = [message.to_string().as_bytes(), b"\0"].concat();
        self.commands.lock().await.write_all(&bytes).await.expect("the browser runs");
        let what = format!("{method} to be answered");
        let answered = within_time(scaled(ANSWER_TIMEOUT), &what, answered);
        let mut answer = answered.await.expect("the browser runs");
        assert!(answer["error"].is_null(), "{method}: {answer}");
        answer["result"].take()
    }

    /// Goes to a page, and waits until it is there.
    ///
    /// # Panics
    /// There is no such page.
    pub async fn open(&self, url: &str) {
        let opened = self.send("Page.navigate", json!({"url": url})).await;
        assert!(opened["errorText"].is_null(), "{url}: {opened}");
        let whole =
            "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', () => done()))";
        self.eval(whole).await;
    }

    /// The value of an expression in the page; of a promise, what it brings.
    ///
    /// # Panics
    /// Where the expression throws.
    pub async fn eval(&self, expression: &str) -> Value {
        let parameters = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut result = self.send("Runtime.evaluate", parameters).await;
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// Makes the page this large.
    pub async fn resize(&self, width: u32, height: u32) {
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.send("Emulation.setDeviceMetricsOverride", size).await;
    }

    /// Has the user prefer dark pages, or light ones.
    pub async fn prefer_dark(&self, dark: bool) {
        let scheme = json!({"name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" }});
        self.send("Emulation.setEmulatedMedia", json!({"features": [scheme]})).await;
    }

    /// Presses a key: `Tab`, `Enter`, or one that writes something.
    pub async fn press(&self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            " " => (32, " "),
            other => (0, other),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({"type": kind, "key": key, "windowsVirtualKeyCode": code});
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.send("Input.dispatchKeyEvent", event).await;
        }
    }

    /// A picture of what is visible, as a PNG.
    ///
    /// # Panics
    /// Where there is none.
    pub async fn screenshot(&self) -> Vec<u8> {
        let shot = self.send("Page.captureScreenshot", json!({"format": "png"})).await;
        BASE64_STANDARD.decode(shot["data"].as_str().expect("a picture")).expect("base64")
    }

    /// What of the page keeps people out, as far as axe-core can tell: rules of serious or critical impact and where they are broken.
    ///
    /// # Panics
    /// Where axe-core cannot be had.
    pub async fn barriers(&self) -> Vec<String> {
        let script = std::fs::read_to_string(axe()).expect("axe-core can be read");
        self.eval(&format!("{script}; null")).await;
        let found = self.eval("axe.run().then(found => found.violations)").await;
        let serious = |broken: &&Value| matches!(broken["impact"].as_str(), Some("serious" | "critical"));
        let broken = found.as_array().expect("a list").iter().filter(serious);
        broken.map(|broken| format!("{}: {}", broken["id"], broken["nodes"])).collect()
    }

    /// Errors and warnings on the console up to now, violations of the content security policy included.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        self.shared.problems.lock().clone()
    }

    /// The addresses that the page has asked for up to now.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.requests.lock().clone()
    }
}

/// Takes what the browser says: each message ends with a zero byte.
async fn read(answers: pipe::Receiver, seen: Arc<BrowserMessages>) {
    let mut answers = BufReader::new(answers);
    let mut message = Vec::new();
    while answers.read_until(0, &mut message).await.is_ok_and(|length| length > 0) {
        message.pop();
        let parsed: Value = serde_json::from_slice(&message).expect("the browser speaks JSON");
        message.clear();
        if let Some(id) = parsed["id"].as_u64() {
            let asked = seen.answers.lock().remove(&id);
            // Who asked may have given up.
            asked.into_iter().for_each(|asked| drop(asked.send(parsed.clone())));
            continue;
        }
        let (method, told) = (parsed["method"].as_str().unwrap_or_default(), &parsed["params"]);
        match method {
            "Runtime.exceptionThrown" => seen.problems.lock().push(told["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" if matches!(told["type"].as_str(), Some("error" | "warning" | "assert")) => {
                seen.problems.lock().push(told["args"].to_string());
            }
            "Log.entryAdded" if matches!(told["entry"]["level"].as_str(), Some("error" | "warning")) => {
                seen.problems.lock().push(format!("{}: {}", told["entry"]["text"], told["entry"]["url"]));
            }
            "Network.requestWillBeSent" => {
                seen.requests.lock().push(told["request"]["url"].as_str().unwrap_or_default().to_owned());
            }
            _ => {}
        }
    }
    // Whoever still waits learns that there will be no answer.
    seen.answers.lock().clear();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_page_is_shown_and_tells_what_goes_wrong_in_it() {
        let browser = Browser::start(400, 300).await;
        browser.open("data:text/html,<html lang=en><title>t</title><main><h1>one</h1><img src=x></main>").await;
        assert_eq!(browser.eval("document.querySelector('h1').textContent").await, "one");
        assert_eq!(browser.eval("innerWidth").await, 400);
        assert!(browser.barriers().await.iter().any(|broken| broken.contains("image-alt")));
        browser.eval("console.error('oh')").await;
        crate::eventually!("the error", browser.problems(), |problems| problems.iter().any(|told| told.contains("oh")));
        assert!(browser.screenshot().await.starts_with(b"\x89PNG"));
    }
}
