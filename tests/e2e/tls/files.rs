//! Unusable files: `fanfare check` and the start name the file, the configuration key and the remedy.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use testkit::pki::{Authority, Wanted};

use super::bed::{File, Pair, flag};
use crate::process::{Finished, run};

/// A folder with a file for every fault.
struct Faults {
    folder: tempfile::TempDir,
    good: Pair,
}

impl Faults {
    fn new() -> Self {
        let (faults, other) = (Self { folder: tempfile::tempdir().expect("a folder"), good: good() }, good());
        let between = Authority::new("root").under("between").issue(&["a.example"]);
        let (first, second) = between.chain.split_once("-----END CERTIFICATE-----\n").expect("two certificates");
        let backwards = format!("{second}{first}-----END CERTIFICATE-----\n");
        fs::create_dir(faults.path("directory")).expect("makes");
        for (name, content) in [
            ("empty", ""),
            ("text", "hello\n"),
            ("binary", "\u{1}\0\0\u{7f}"),
            ("cut", &faults.good.issued.chain[..200]),
            ("broken", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"),
            ("key", &faults.good.issued.key),
            ("cert", &faults.good.issued.chain),
            ("other-cert", &other.issued.chain),
            ("other-key", &other.issued.key),
            ("between-key", &between.key),
            ("backwards", &backwards),
            ("encrypted", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIC\n-----END ENCRYPTED PRIVATE KEY-----\n"),
        ] {
            fs::write(faults.path(name), content).expect("writes");
        }
        fs::write(faults.path("huge"), vec![b'a'; 80 << 20]).expect("writes");
        faults
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

fn good() -> Pair {
    Pair::of("authority", &["a.example"])
}

async fn check(listener: &str, to: &str) -> Finished {
    let file = File::new(&format!(
        "broadcast:\n  - listen: 127.0.0.1:0\n{listener}    routes: [{{to: {{endpoints: '192.0.2.1:80'{to}}}}}]\n"
    ));
    run(["check".as_ref(), file.path.as_os_str()]).await
}

fn shows(cert: &Path, key: &Path) -> String {
    format!("    tls: {{certificates: [{{cert: {}, key: {}}}]}}\n", cert.display(), key.display())
}

#[track_caller]
fn assert_told(finished: &Finished, key: &str, file: &Path, advice: &str) {
    let line = format!("  {key}: {}: ", file.display());
    let told = finished.stderr.lines().find(|told| told.starts_with(&line));
    let told = told.unwrap_or_else(|| panic!("nothing begins with {line:?}\n{}", finished.stderr));
    assert!(finished.code == Some(64) && told.contains(advice), "{:?}: {told}", finished.code);
}

#[tokio::test]
async fn check_names_the_file_the_key_and_what_to_do() {
    let faults = Faults::new();
    let (cert, key) = (faults.path("cert"), faults.path("key"));
    let certs = [
        (
            "missing",
            "it cannot be read: No such file or directory (os error 2): correct the path, or see that the volume",
        ),
        ("directory", "it is a directory; name a file in it (tls.crt, say)"),
        ("empty", "there is no certificate in it; it is empty"),
        ("text", "there is no certificate in it; PEM form is expected"),
        ("binary", "there is no certificate in it; PEM form is expected"),
        ("cut", "it is cut off"),
        ("broken", "certificate 1 of it is refused"),
        ("key", "but a private key: were the two files mixed up?"),
        ("huge", "bytes, more than the"),
    ];
    for (name, advice) in certs {
        let (list, file) = ("broadcast[0].tls.certificates[0].cert", faults.path(name));
        assert_told(&check(&shows(&file, &key), "").await, list, &file, advice);
        if name != "huge" {
            let to = format!(", tls: {{ca: {}}}", file.display());
            let finished = check("", &to).await;
            assert_told(&finished, "broadcast[0].routes[0].to.tls.ca", &file, advice);
        }
    }
    let keys = [
        ("missing", "it cannot be read"),
        ("empty", "there is no private key in it; it is empty"),
        ("other-cert", "but a certificate: were the two files mixed up?"),
        ("encrypted", "decrypt it with `openssl pkey"),
        ("other-key", "this key does not belong to the certificate in"),
    ];
    for (name, advice) in keys {
        let file = faults.path(name);
        let told = check(&shows(&cert, &file), "").await;
        assert_told(&told, "broadcast[0].tls.certificates[0].key", &file, advice);
        let to = format!(", tls: {{cert: {}, key: {}}}", cert.display(), file.display());
        assert_told(&check("", &to).await, "broadcast[0].routes[0].to.tls.key", &file, advice);
        assert!(!told.stderr.contains("MIGH") && !told.stderr.contains("BEGIN PRIVATE"), "{}", told.stderr);
    }
    let told = check(&shows(&faults.path("backwards"), &faults.path("between-key")), "").await;
    let advice = "belongs to certificate 2 of";
    assert_told(&told, "broadcast[0].tls.certificates[0].key", &faults.path("between-key"), advice);
    let good = check(&shows(&cert, &key), "").await;
    assert_eq!((good.code, good.stderr.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn every_fault_is_told_at_once_and_each_by_its_own_key() {
    let faults = Faults::new();
    let (cert, key, nowhere) = (faults.path("cert"), faults.path("key"), Path::new("/nowhere"));
    let text = format!(
        "admin: {{listen: 127.0.0.1:0, tokens: /nowhere, tls: {{cert: {cert}, key: /nowhere}}}}
broadcast:
  - listen: 127.0.0.1:0
    auth: {{tokens: /nowhere}}
    tls: {{certificates: [{{cert: {cert}, key: {key}}}, {{cert: {cert}, key: /nowhere}}]}}
    routes:
      - {{match: {{path: /a}}, to: {{endpoints: '192.0.2.1:80', tls: {{cert: /nowhere, key: {key}}}}}}}
  - listen: 127.0.0.1:0
    tls: {{certificates: [{{cert: {cert}, key: {key}}}], client_ca: /nowhere}}
    routes: [{{to: {{endpoints: '192.0.2.1:80'}}}}]
elect: [{{name: a, http: 127.0.0.1:0, step_down_token_file: /nowhere}}]
bridge: [{{from: 's3://bucket/key', to: /nowhere/file, s3: {{ca_file: /nowhere}}}}]
",
        cert = cert.display(),
        key = key.display(),
    );
    let file = File::new(&text);
    for command in ["check", "run"] {
        let finished = run([command.as_ref(), file.path.as_os_str()]).await;
        for path in [
            "admin.tls.key",
            "broadcast[0].tls.certificates[1].key",
            "broadcast[0].routes[0].to.tls.cert",
            "broadcast[1].tls.client_ca",
        ] {
            assert_told(&finished, path, nowhere, "it cannot be read");
        }
        for path in [
            "admin.tokens: ",
            "broadcast[0].auth.tokens: ",
            "elect[0].step_down_token_file: ",
            "bridge[0].s3.ca_file: ",
        ] {
            assert!(finished.stderr.contains(&format!("  {path}cannot read /nowhere")), "{}", finished.stderr);
        }
        assert!(finished.stderr.contains("8 problems in what"), "{}", finished.stderr);
    }
}

#[tokio::test]
async fn certificates_outside_of_their_dates_can_be_used_with_a_warning() {
    let authority = Authority::new("authority");
    for (wanted, said) in [
        (Wanted::names(&["a.example"]).expired(Duration::from_secs(3600)), "a certificate in it has expired at "),
        (
            Wanted::names(&["a.example"]).valid_after(Duration::from_secs(3600)),
            "a certificate in it is not valid before ",
        ),
        (Wanted::names(&["a.example"]).valid_for(Duration::from_secs(3600)), "a certificate in it expires soon, at "),
    ] {
        let issued = authority.sign(&wanted);
        let folder = tempfile::tempdir().expect("a folder");
        let (cert, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        fs::write(&cert, &issued.chain).and_then(|()| fs::write(&key, &issued.key)).expect("writes");
        let told = check(&shows(&cert, &key), "").await;
        let line = format!("warning: broadcast[0].tls.certificates[0].cert: {}: {said}", cert.display());
        assert!(told.code == Some(0) && told.stderr.starts_with(&line), "{:?} {}", told.code, told.stderr);
        assert!(told.stderr.contains("replace the file") && told.stdout.starts_with("ok\n"), "{}", told.stdout);
    }
}

#[tokio::test]
async fn the_start_names_the_flag() {
    let faults = Faults::new();
    let (cert, key, text) = (faults.path("cert"), faults.path("key"), faults.path("text"));
    for (flags, named) in [
        (vec![flag("tls-cert", &text), flag("tls-key", &key)], "--tls-cert"),
        (vec![flag("tls-cert", &cert), flag("tls-key", &text)], "--tls-key"),
        (vec![flag("tls-cert", &cert), flag("tls-key", &key), flag("tls-client-ca", &text)], "--tls-client-ca"),
        (vec![flag("upstream-ca", &text)], "--upstream-ca"),
        (vec![flag("upstream-cert", &text), flag("upstream-key", &key)], "--upstream-cert"),
        (vec![flag("metrics-tls-cert", &cert), flag("metrics-tls-key", &text)], "--metrics-tls-key"),
    ] {
        let fixed = ["broadcast", "-i=127.0.0.1:0", "-m=127.0.0.1:0", "--endpoints=192.0.2.1:80"].map(str::to_owned);
        let finished = run([&fixed[..], &flags].concat()).await;
        assert_told(&finished, named, &text, "PEM form is expected");
    }
}

#[tokio::test]
async fn an_unreadable_file_is_reported_with_the_user() {
    let faults = Faults::new();
    let (cert, key) = (faults.path("cert"), faults.path("key"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o0)).expect("it is ours");
    let told = check(&shows(&cert, &key), "").await;
    // Root can read every file.
    match fs::read(&key) {
        Ok(_) => assert_eq!(told.code, Some(0), "{}", told.stderr),
        Err(_) => {
            assert_told(&told, "broadcast[0].tls.certificates[0].key", &key, "let the user that the process runs as");
        }
    }
}
