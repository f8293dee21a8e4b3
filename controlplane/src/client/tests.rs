//! Clients on real sockets: what reaches the API server, and what is reported where no client can be made.

use std::{fs, path::PathBuf};

use proptest::prelude::*;
use tempfile::{NamedTempFile, TempDir};
use testkit::{
    origin::{Origin, Reply},
    pki::Authority,
    tls_relay::TlsRelay,
};

use super::*;

mod plugins;
mod proxies;

/// What an API server says to whoever asks for its version.
const VERSION: &str = r#"{"major":"1","minor":"35","gitVersion":"v1.35.4","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#;

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), text).expect("it can be written");
    file
}

/// A kubeconfig of one cluster and one user, each in YAML of one line.
fn kubeconfig(cluster: &str, user: &str) -> NamedTempFile {
    file(&format!(
        "{{clusters: [{{name: c, cluster: {{{cluster}}}}}], users: [{{name: u, user: {{{user}}}}}], \
         contexts: [{{name: x, context: {{cluster: c, user: u, namespace: shop}}}}], current-context: x}}"
    ))
}

/// TLS in front of a server, with a certificate of this authority for 127.0.0.1.
pub(in crate::client) async fn tls_front(authority: &Authority, server: &Origin) -> TlsRelay {
    TlsRelay::in_front("127.0.0.1:0", authority.issue(&["127.0.0.1"]).server(&[]), server.address()).await
}

async fn open_one(kubeconfig: &NamedTempFile, environment: Environment) -> Result<Connection, String> {
    let access = Access::Kubeconfig { path: kubeconfig.path().to_owned(), context: None };
    open(access, environment).await.map_err(|error| error.to_string())
}

async fn ask(client: &Client) -> Result<(), String> {
    client.apiserver_version().await.map(drop).map_err(|error| crate::watch::chain(&error))
}

/// The field `Authorization` of requests with this user of a kubeconfig.
async fn authorization(user: &str) -> String {
    let api_server = Origin::start(Reply::ok(VERSION));
    let kubeconfig = kubeconfig(&format!("server: 'http://{}'", api_server.address()), user);
    let connection = open_one(&kubeconfig, Environment::default()).await.unwrap_or_else(|why| panic!("{user}: {why}"));
    ask(&connection.client).await.unwrap_or_else(|why| panic!("{user}: {why}"));
    let request = api_server.requests().remove(0);
    let head = String::from_utf8_lossy(&request.head).into_owned();
    let field =
        head.lines().find_map(|line| line.strip_prefix("authorization: ").or(line.strip_prefix("Authorization: ")));
    field.unwrap_or_default().to_owned()
}

#[tokio::test]
async fn requests_carry_the_identity_of_the_user() {
    let api_server = Origin::start(Reply::ok(VERSION));
    let kubeconfig = kubeconfig(
        &format!("server: 'http://{}'", api_server.address()),
        "token: t0ken, as: robot, as-groups: [a, b], as-user-extra: {'a/b': [c]}",
    );
    let connection = open_one(&kubeconfig, Environment::default()).await.expect("a valid kubeconfig");
    assert_eq!(connection.namespace, "shop");
    assert_eq!(api_server.accepted(), 0, "making a client asks nothing");
    ask(&connection.client).await.expect("it is there");
    let head = String::from_utf8_lossy(&api_server.requests().remove(0).head).to_lowercase();
    for field in [
        &*format!("user-agent: {}", make::AGENT),
        "authorization: bearer t0ken",
        "impersonate-user: robot",
        "impersonate-group: a",
        "impersonate-group: b",
        "impersonate-extra-a%2fb: c",
    ] {
        assert!(head.contains(field), "{field}: {head}");
    }
}

#[tokio::test]
async fn line_ends_around_a_token_are_not_part_of_it() {
    let in_file = file("from-file\n");
    let path = in_file.path().display();
    for (user, told) in [
        ("token: \"t0ken\\n\"".to_owned(), "Bearer t0ken"),
        ("token: \" t0ken\\r\\n\\n\"".to_owned(), "Bearer t0ken"),
        (format!("tokenFile: '{path}'"), "Bearer from-file"),
        ("username: u, password: s3cret".to_owned(), "Basic dTpzM2NyZXQ="),
        ("auth-provider: {name: oidc, config: {id-token: \"id\\n\"}}".to_owned(), "Bearer id"),
        (String::new(), ""),
        ("token: ''".to_owned(), ""),
    ] {
        assert_eq!(authorization(&user).await, told, "{user}");
    }
}

#[tokio::test]
async fn of_a_token_and_its_file_the_file_counts_as_long_as_it_can_be_read() {
    let in_file = file("from-file\n");
    let path = in_file.path().display().to_string();
    assert_eq!(authorization(&format!("token: given, tokenFile: '{path}'")).await, "Bearer from-file");
    fs::write(in_file.path(), "\n").expect("it can be written");
    assert_eq!(authorization(&format!("token: given, tokenFile: '{path}'")).await, "Bearer given");
    assert_eq!(authorization("token: given, tokenFile: /nowhere/token").await, "Bearer given");
}

#[tokio::test]
async fn invalid_settings_are_reported_without_their_secrets() {
    let missing = "cannot read /nowhere/x";
    for (cluster, user, told) in [
        ("server: 'http://h'", "token: \"s3cret\\nline\"", "token: there is a line end"),
        ("server: 'http://h'", "token: s3crét", "token: there is a line end, or another character"),
        ("server: 'http://h'", "tokenFile: /nowhere/x", missing),
        ("server: 'http://h'", "as: \"a\\nb\"", "as: \"a\\nb\" cannot be sent"),
        ("server: 'https://h'", "client-certificate: /nowhere/x", missing),
        ("server: 'https://h'", "client-key-data: s3cret!", "client-key-data is not base64"),
        ("server: 'https://h'", "client-key-data: czNjcmV0", "there is no client-certificate"),
        (
            "server: 'https://h'",
            "client-certificate-data: eA==, client-key-data: czNjcmV0",
            "no client for the API server",
        ),
        ("server: 'https://h', certificate-authority-data: eA==", "", "no list of certificates"),
        ("server: 'https://h', certificate-authority: /nowhere/x", "", missing),
        ("server: '10.0.0.1:6443'", "", "server: \"10.0.0.1:6443\" has no scheme: write https://"),
        ("server: 'localhost'", "", "write https://localhost"),
        ("server: 'https://u:s3cret@h'", "", "https://u:***@h"),
        ("server: 'https://h', proxy-url: 'gopher://u:s3cret@h'", "", "the proxy that proxy-url names cannot be used"),
        ("", "", "its cluster \"c\" has no server"),
        ("server: 'http://h'", "exec: {args: [s3cret]}", "exec: command is missing"),
        ("server: 'http://h'", "exec: {command: x, interactiveMode: Always}", "needs user input"),
        (
            "server: 'http://h'",
            "auth-provider: {name: gcp, config: {access-token: s3cret}}",
            "\"gcp\" is not supported",
        ),
        ("server: [s3cret", "token: s3cret", "not valid YAML of a kubeconfig at line"),
        ("server: 'http://h'", "token: [s3cret]", "not valid YAML of a kubeconfig at line"),
    ] {
        let kubeconfig = kubeconfig(cluster, user);
        let why =
            open_one(&kubeconfig, Environment::default()).await.err().unwrap_or_else(|| panic!("{cluster} {user}"));
        assert!(why.contains(told) && !why.contains("s3cr"), "{cluster} {user}: {why}");
        let named = why.contains(&kubeconfig.path().display().to_string()) || why.contains("https://h");
        assert!(named, "it says where: {why}");
    }
}

/// What a kubeconfig has of a text in PEM form.
fn base64(text: &str) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(text)
}

#[tokio::test]
async fn a_server_is_verified_and_shown_the_certificate_of_the_user() {
    let (authority, stranger) = (Authority::new("cluster"), Authority::new("stranger"));
    let api_server = Origin::start(Reply::ok(VERSION));
    let certificate = authority.issue(&["api.hidden.test"]);
    let front = TlsRelay::in_front("127.0.0.1:0", authority.demanding(&certificate, &[]), api_server.address()).await;
    let asked = async |roots: &str, more: &str, user: &str| {
        let kubeconfig = kubeconfig(&format!("server: 'https://{}', {roots}{more}", front.address), user);
        let connection = open_one(&kubeconfig, Environment::default()).await?;
        ask(&connection.client).await
    };
    let roots = format!("certificate-authority-data: {}", base64(&authority.pem()));
    let issued = authority.issue(&["user"]);
    let user = format!("client-certificate-data: {}, client-key-data: {}", base64(&issued.chain), base64(&issued.key));
    let name = ", tls-server-name: api.hidden.test";
    asked(&roots, name, &user).await.expect("both are trusted");
    asked("insecure-skip-tls-verify: true", "", &user).await.expect("whatever the certificate of the server");
    let why = asked(&roots, "", &user).await.expect_err("the name is another one");
    assert!(why.contains("api.hidden.test"), "{why}");
    let foreign = format!("certificate-authority-data: {}", base64(&stranger.pem()));
    let why = asked(&foreign, name, &user).await.expect_err("the server is unknown");
    assert!(why.contains("UnknownIssuer"), "{why}");
    asked(&roots, name, "").await.expect_err("the server wants a certificate");
    let other = format!(
        "client-certificate-data: {}, client-key-data: {}",
        base64(&issued.chain),
        base64(&authority.issue(&["other"]).key)
    );
    let why = asked(&roots, name, &other).await.expect_err("it is the key of another certificate");
    assert!(why.contains("the client certificate is refused"), "{why}");
    assert_eq!(api_server.requests().len(), 2);
}

#[tokio::test]
async fn the_documents_of_one_file_are_merged() {
    let api_server = Origin::start(Reply::ok(VERSION));
    let text = format!(
        "# a comment\n---\n---\nclusters: [{{name: c, cluster: {{server: 'http://{}'}}}}]\n---\n\
         users: [{{name: u, user: {{token: 12345}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
         current-context: x\n",
        api_server.address()
    );
    let connection = open_one(&file(&text), Environment::default()).await.expect("a valid kubeconfig");
    ask(&connection.client).await.expect("it is there");
    let head = String::from_utf8_lossy(&api_server.requests().remove(0).head).to_lowercase();
    assert!(head.contains("authorization: bearer 12345"), "a token of digits is a text: {head}");
}

#[tokio::test]
async fn an_invalid_kubeconfig_is_reported() {
    for (bytes, told) in [
        (&b"clusters: {"[..], "not valid YAML"),
        (b"", "no current-context"),
        (b"\xFF\xFE\x00", "not text in UTF-8 or UTF-16"),
        (b"\xFF\xFE", "no current-context"),
        (b"\x80", "not text"),
        (b"{current-context: x}", "no context \"x\""),
        (
            b"{current-context: x, contexts: [{name: x, context: {cluster: c}}]}",
            "in a cluster \"c\", which it does not have",
        ),
    ] {
        let broken = NamedTempFile::new().expect("a temporary file");
        fs::write(broken.path(), bytes).expect("it can be written");
        let why = open_one(&broken, Environment::default()).await.err().expect("it is no kubeconfig");
        assert!(why.contains("cannot be used") && why.contains(told), "{told}: {why}");
    }
    let missing = Access::Kubeconfig { path: "/nowhere/kubeconfig".into(), context: None };
    let missing = open(missing, Environment::default()).await.err().expect("there is no such file").to_string();
    assert!(missing.contains("/nowhere/kubeconfig"), "{missing}");
    let endless = Access::Kubeconfig { path: "/dev/zero".into(), context: None };
    let endless = open(endless, Environment::default()).await.err().expect("it has no end").to_string();
    assert!(endless.contains("it is a device"), "{endless}");
}

#[tokio::test]
async fn a_file_of_a_list_that_is_missing_is_left_out() {
    let api_server = Origin::start(Reply::ok(VERSION));
    let folder = TempDir::new().expect("a temporary folder");
    let write = |name: &str, text: String| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("it can be written");
        path
    };
    fs::write(folder.path().join("token"), "t0ken\n").expect("it can be written");
    let user = write("user", "{users: [{name: u, user: {tokenFile: token}}]}".to_owned());
    let context = "contexts: [{name: x, context: {cluster: c, user: u}}], current-context: x";
    let cluster = write(
        "cluster",
        format!("{{clusters: [{{name: c, cluster: {{server: 'http://{}'}}}}], {context}}}", api_server.address()),
    );
    let missing = folder.path().join("missing");
    let list = |paths: &[&PathBuf]| Access::Kubeconfigs {
        paths: paths.iter().map(|path| (*path).clone()).collect(),
        context: None,
    };
    let connection = open(list(&[&missing, &user, &missing, &cluster]), Environment::default()).await;
    ask(&connection.expect("two of them are there").client).await.expect("together they say all");
    let head = String::from_utf8_lossy(&api_server.requests().remove(0).head).to_lowercase();
    assert!(head.contains("bearer t0ken"), "paths in a file are relative to it: {head}");
    let none = open(list(&[&missing, &missing]), Environment::default()).await.err().expect("none is there");
    assert!(none.to_string().contains("none of these files exists"), "{none}");
    let broken = write("broken", "{".to_owned());
    let why = open(list(&[&cluster, &broken]), Environment::default()).await.err().expect("one is broken").to_string();
    assert!(why.contains(&format!("{}: it is not valid YAML", broken.display())), "{why}");
}

#[tokio::test]
async fn a_pipe_is_read_only_once() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader));
    let api_server = Origin::start(Reply::ok(VERSION));
    let text = kubeconfig(&format!("server: 'http://{}'", api_server.address()), "token: t0ken");
    std::io::Write::write_all(&mut &writer, &fs::read(text.path()).expect("a file")).expect("it fits into a pipe");
    drop(writer);
    let access = Access::Kubeconfig { path: path.into(), context: None };
    let connection = open(access, Environment::default()).await.expect("a valid kubeconfig");
    ask(&connection.client).await.expect("what was read is used");
    let again =
        FileReader { again: true }.read(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&reader)).as_ref());
    assert!(again.expect_err("it is not waited for").to_string().contains("read only once"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever stands in a kubeconfig, making a client of it ends in a client or in an error.
    #[test]
    fn no_text_makes_it_panic(field in 0..12_usize, text in "\\PC{0,12}|[\\x00-\\xFF]{0,8}|(http|https|socks5)://[\\PC]{0,12}") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let quoted = serde_json::to_string(&text).expect("a text is JSON");
        let value = |at: usize, key: &str| if at == field { format!("{key}: {quoted}") } else { format!("{key}: null") };
        let server = if field == 0 { format!("server: {quoted}") } else { "server: 'http://127.0.0.1:1'".to_owned() };
        let cluster = [
            server,
            value(1, "certificate-authority-data"),
            value(2, "tls-server-name"),
            value(3, "proxy-url"),
        ].join(", ");
        let exec = if field == 4 { format!("exec: {{command: {quoted}, args: [{quoted}], env: [{{name: {quoted}, value: {quoted}}}]}}") } else { "exec: null".into() };
        let user = [
            value(5, "token"), value(6, "tokenFile"), value(7, "as"), value(8, "as-uid"),
            value(9, "client-certificate-data"), value(10, "client-key-data"), exec,
            if field == 11 { format!("as-user-extra: {{{quoted}: [{quoted}]}}, username: {quoted}, password: {quoted}") } else { "username: null".into() },
        ].join(", ");
        let kubeconfig = kubeconfig(&cluster, &user);
        runtime.block_on(async {
            let opened = open_one(&kubeconfig, Environment::default()).await;
            if let Err(why) = &opened {
                assert!(!why.contains("please report"), "{field} {text:?}: {why}");
            }
            // Nobody listens there, and no name is asked for.
            if let (Ok(connection), true) = (opened, ![0, 3, 4].contains(&field)) {
                let error = ask(&connection.client).await.expect_err("nobody listens there");
                assert!(!error.contains("please report"), "{field} {text:?}: {error}");
            }
        });
    }
}
