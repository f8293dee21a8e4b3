//! Credential plugins: real programs that give, fail, hang and are asked again.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use jiff::Timestamp;
use testkit::origin::Script;

use super::*;

/// A plugin that runs these lines of a shell. What it is given is in `$KUBERNETES_EXEC_INFO`.
struct Plugin {
    folder: TempDir,
}

impl Plugin {
    fn new(script: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("plugin");
        fs::write(&path, format!("#!/bin/sh\ncd {}\necho >> asked\n{script}\n", folder.path().display()))
            .expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
        Self { folder }
    }

    fn asked(&self) -> usize {
        self.read("asked").lines().count()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn user(&self) -> String {
        let command = self.folder.path().join("plugin");
        // By way of a shell: a file that was just written may be busy.
        format!(
            "exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, args: ['{}'], env: [{{name: GIVEN, value: v}}], provideClusterInfo: true}}",
            command.display()
        )
    }
}

fn gives(token: &str, until: Option<Timestamp>) -> String {
    let until = until.map(|until| format!(", expirationTimestamp: \"{until}\"")).unwrap_or_default();
    format!(
        "echo '{{apiVersion: client.authentication.k8s.io/v1, kind: ExecCredential, status: {{token: \"{token}\"{until}}}}}'"
    )
}

fn accepting(token: &str) -> Script {
    let bearer = format!("authorization: bearer {token}\r\n");
    Script::on_request(move |request| {
        let accepted = String::from_utf8_lossy(&request.head).to_lowercase().contains(&bearer);
        if accepted { Reply::ok(VERSION) } else { Reply::new(401).body(r#"{"code":401,"message":"Unauthorized"}"#) }
    })
}

/// A client that knows this plugin, from a kubeconfig that is gone when it is made: what was read then stays in use.
async fn client(plugin: &Plugin, api_server: &Origin) -> Client {
    let cluster = format!("server: 'http://{}'", api_server.address());
    let opened = open_one(&kubeconfig(&cluster, &plugin.user()), Environment::default()).await;
    opened.expect("a valid kubeconfig").client
}

#[tokio::test]
async fn credentials_of_a_plugin_are_used_until_they_are_refused() {
    let plugin = Plugin::new(&format!("echo \"$KUBERNETES_EXEC_INFO$GIVEN\" > info; {}", gives("one\\n", None)));
    let api_server = Origin::start(accepting("one"));
    let client = client(&plugin, &api_server).await;
    assert_eq!(plugin.asked(), 0, "making a client asks nobody");
    for _ in 0..3 {
        ask(&client).await.expect("the token is accepted");
    }
    assert_eq!(plugin.asked(), 1);
    let info = plugin.read("info");
    assert!(info.contains("\"interactive\":false") && info.contains(&api_server.address().to_string()), "{info}");
    assert!(info.ends_with("v\n"), "{info}");
    api_server.set(accepting("two"));
    ask(&client).await.expect_err("it is not accepted any more");
    testkit::eventually!(
        "other credentials to be asked for",
        {
            let _ = ask(&client).await;
            plugin.asked()
        },
        |asked| *asked == 2
    );
}

#[tokio::test]
async fn credentials_that_end_are_replaced_in_time() {
    let soon = Timestamp::now() + Duration::from_secs(30);
    let plugin = Plugin::new(&gives("one", Some(soon)));
    let api_server = Origin::start(accepting("one"));
    let client = client(&plugin, &api_server).await;
    testkit::eventually!(
        "others to be asked for",
        {
            ask(&client).await.expect("they count");
            plugin.asked()
        },
        |asked| *asked >= 2
    );
}

#[tokio::test]
async fn a_plugin_that_fails_is_named_and_its_output_is_not_shown() {
    for (script, told) in [
        ("echo s3cret; exit 7", "exit status: 7"),
        ("echo s3cret", "wrote no ExecCredential"),
        ("echo '{kind: Secret, status: {token: s3cret}}'", "wrote no ExecCredential"),
        // Read as strictly as any other file: no key twice, no tags.
        (
            "echo '{kind: ExecCredential, s3cret: 1, s3cret: 2, status: {token: t}}'",
            "wrote no ExecCredential to stdout (line 1, column",
        ),
        ("echo '!s3cret {kind: ExecCredential}'", "wrote no ExecCredential"),
        ("echo '{kind: ExecCredential}'", "without a status"),
        ("echo '{kind: ExecCredential, status: {}}'", "neither a token nor a certificate"),
        ("echo '{kind: ExecCredential, status: {clientKeyData: s3cret}}'", "neither a token nor a certificate"),
        ("echo '{kind: ExecCredential, status: {token: \"s3cret\\nx\"}}'", "gives a token that cannot be sent"),
        (
            "echo '{kind: ExecCredential, status: {token: s3cret, expirationTimestamp: never}}'",
            "\"never\", which is not a time",
        ),
    ] {
        let plugin = Plugin::new(script);
        let api_server = Origin::start(Reply::ok(VERSION));
        let client = client(&plugin, &api_server).await;
        let why = ask(&client).await.expect_err(script);
        assert!(
            why.contains("the credential plugin sh ") && why.contains(told) && !why.contains("s3cret"),
            "{script}: {why}"
        );
        api_server.assert_untouched();
    }
    let user = "exec: {command: /nowhere/plugin, installHint: \"get\\nit\"}";
    let opened = open_one(&kubeconfig("server: 'http://h'", user), Environment::default()).await;
    let why = ask(&opened.expect("a valid kubeconfig").client).await.expect_err("there is no such program");
    assert!(why.contains("/nowhere/plugin cannot be started") && why.contains("(get it)"), "{why}");
}

/// A request that is given up does not take the plugin with it, or one that takes longer than any request would never end.
#[tokio::test]
async fn a_slow_plugin_is_asked_once_for_all_requests() {
    let plugin = Plugin::new(&format!("while ! [ -e go ]; do sleep 0.01; done; {}", gives("one", None)));
    let api_server = Origin::start(accepting("one"));
    let client = client(&plugin, &api_server).await;
    for _ in 0..3 {
        let asking = tokio::time::timeout(Duration::from_millis(1), ask(&client));
        asking.await.expect_err("nothing is known yet");
    }
    testkit::eventually!("it to be asked", plugin.asked(), |asked| *asked == 1);
    fs::write(plugin.folder.path().join("go"), "").expect("it can be written");
    testkit::eventually::within("the answer", ask(&client)).await.expect("its token is accepted");
    assert_eq!(plugin.asked(), 1);
}

/// The clock runs ahead as soon as nothing else is left to wait for.
#[tokio::test(start_paused = true)]
async fn a_plugin_that_hangs_is_killed_with_all_it_started() {
    let plugin = Plugin::new("echo $$ > pid; sleep 1000 & wait");
    let exec = format!("{{command: sh, args: ['{}']}}", plugin.folder.path().join("plugin").display());
    let exec: kube::config::ExecConfig = serde_yaml::from_str(&exec).expect("it is one");
    let parsed = crate::client::plugin::Plugin::new(&exec, &kube::config::Cluster::default(), None).expect("a plugin");
    let why = parsed.ask().await.err().expect("it does not end").to_string();
    assert!(why.contains("did not end within 60s and was killed"), "{why}");
    let pid = plugin.read("pid");
    // With the clock running ahead it may have been killed before it wrote its number.
    let stat = format!("/proc/{}/stat", pid.trim());
    let gone = || pid.is_empty() || !fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z "));
    let since = std::time::Instant::now();
    while !gone() {
        assert!(since.elapsed() < testkit::eventually::patience(), "it still runs");
        std::thread::yield_now();
    }
}
