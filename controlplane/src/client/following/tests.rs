//! Access to a remote cluster on real sockets: what is read, what is trusted, what is read again and when.

use std::fs;

use tempfile::{NamedTempFile, TempDir};
use testkit::{
    origin::{Origin, Reply, Script},
    pki::Authority,
    tls_relay::TlsRelay,
};

use super::*;
use crate::client::{
    access::{Secret, Token, Trust, Url},
    remote::RemoteConnection,
    tests::tls_front,
};

/// What an API server says to whoever asks for its version.
const VERSION: &str = r#"{"major":"1","minor":"35","gitVersion":"v1.35.4","gitCommit":"","gitTreeState":"","buildDate":"","goVersion":"","compiler":"","platform":""}"#;

/// Nothing is waited for.
const AT_ONCE: Intervals =
    Intervals { recheck: Duration::MAX, refetch: Duration::MAX, refused: Duration::ZERO, lost: Duration::ZERO };

fn with_intervals(access: Access, intervals: Intervals) -> RemoteConnection {
    let following = Following::new(access, Environment::default(), intervals, None);
    let server = following.server();
    RemoteConnection { client: following.client("default"), server }
}

/// An API server that accepts one token.
fn accepting(token: &'static str) -> Script {
    Script::on_request(move |request| {
        let bearer = format!("authorization: bearer {token}\r\n");
        let accepted = String::from_utf8_lossy(&request.head).to_lowercase().contains(&bearer);
        if accepted { Reply::ok(VERSION) } else { Reply::new(401).body(r#"{"code":401,"message":"Unauthorized"}"#) }
    })
}

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), text).expect("it can be written");
    file
}

fn plain(origin: &Origin, token: Token) -> Access {
    let url = Url::parse(&format!("http://{}", origin.address())).expect("a URL");
    Access::Server { url, trust: Trust::System, token }
}

async fn ask(client: &kube::Client) -> Result<(), String> {
    client.apiserver_version().await.map(drop).map_err(|error| crate::watch::chain(&error))
}

#[tokio::test]
async fn a_token_that_is_refused_is_read_again() {
    let api_server = Origin::start(accepting("one"));
    let token = file("one\n");
    let client = with_intervals(plain(&api_server, Token::File(token.path().into())), AT_ONCE).client;
    ask(&client).await.expect("the token is accepted");
    api_server.set(accepting("two"));
    fs::write(token.path(), "two\n").expect("it can be written");
    let refused = ask(&client).await.expect_err("the old token is not accepted any more");
    assert!(refused.contains("401") || refused.contains("Unauthorized"), "{refused}");
    ask(&client).await.expect("the new token is accepted");
}

#[tokio::test]
async fn a_new_token_is_taken_before_the_old_one_ends() {
    let api_server = Origin::start(accepting("one"));
    let token = file("one");
    let intervals = Intervals { recheck: Duration::ZERO, ..AT_ONCE };
    let client = with_intervals(plain(&api_server, Token::File(token.path().into())), intervals).client;
    ask(&client).await.expect("the token is accepted");
    ask(&client).await.expect("it still is");
    assert_eq!(api_server.accepted(), 1, "what has not changed is not made anew");
    fs::write(token.path(), "two").expect("it can be written");
    api_server.set(accepting("two"));
    ask(&client).await.expect("the new token is accepted at once");
}

#[tokio::test]
async fn a_token_whose_file_is_deleted_stays_in_use() {
    let api_server = Origin::start(accepting("one"));
    let token = file("one");
    let intervals = Intervals { recheck: Duration::ZERO, ..AT_ONCE };
    let client = with_intervals(plain(&api_server, Token::File(token.path().into())), intervals).client;
    ask(&client).await.expect("the token is accepted");
    fs::write(token.path(), " \n").expect("it can be written");
    ask(&client).await.expect("an empty file changes nothing");
    drop(token);
    ask(&client).await.expect("a missing one neither");
}

#[tokio::test]
async fn an_access_that_comes_later_is_used_then() {
    let api_server = Origin::start(accepting("one"));
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("token");
    let client = with_intervals(plain(&api_server, Token::File(path.clone())), AT_ONCE).client;
    let missing = ask(&client).await.expect_err("there is no token");
    assert!(missing.contains(&path.display().to_string()), "{missing}");
    api_server.assert_untouched();
    fs::write(&path, "one").expect("it can be written");
    ask(&client).await.expect("now there is");
}

#[tokio::test]
async fn a_given_token_is_used_and_never_shown() {
    let api_server = Origin::start(accepting("s3cret"));
    let access = plain(&api_server, Token::Given(Secret::new(" s3cret\n")));
    let shown = format!("{access:?} {access} {}", serde_json::to_string(&access).expect("it can be shown"));
    assert!(!shown.contains("s3cret") && shown.contains("***"), "{shown}");
    ask(&with_intervals(access, AT_ONCE).client).await.expect("the token is accepted");
}

#[tokio::test]
async fn any_context_of_a_kubeconfig_can_be_used() {
    let (east, west) = (Origin::start(accepting("e")), Origin::start(accepting("w")));
    let text = |east: &Origin, west: &Origin| {
        format!(
            "{{clusters: [{{name: e, cluster: {{server: 'http://{}'}}}}, {{name: w, cluster: {{server: 'http://{}'}}}}], \
             users: [{{name: e, user: {{token: e}}}}, {{name: w, user: {{token: w}}}}], \
             contexts: [{{name: east, context: {{cluster: e, user: e}}}}, {{name: west, context: {{cluster: w, user: w}}}}], \
             current-context: east}}",
            east.address(),
            west.address()
        )
    };
    let kubeconfig = file(&text(&east, &west));
    let intervals = Intervals { recheck: Duration::ZERO, ..AT_ONCE };
    let in_context = |context: Option<&str>| {
        let (path, context) = (kubeconfig.path().to_owned(), context.map(str::to_owned));
        with_intervals(Access::Kubeconfig { path, context }, intervals).client
    };
    let (current, other) = (in_context(None), in_context(Some("west")));
    ask(&current).await.expect("the current context is used");
    ask(&other).await.expect("the other one is");
    assert_eq!((east.requests().len(), west.requests().len()), (1, 1));
    let missing = ask(&in_context(Some("north"))).await.expect_err("there is no such context");
    assert!(missing.contains("north"), "{missing}");
    // The clusters change places.
    fs::write(kubeconfig.path(), text(&west, &east)).expect("it can be written");
    let refused = ask(&current).await.expect_err("it goes to the other server now, which does not know it");
    assert!(refused.contains("Unauthorized"), "{refused}");
    assert_eq!((east.requests().len(), west.requests().len()), (1, 2));
}

#[tokio::test]
async fn a_change_of_the_server_is_reported() {
    let (one, other) = (Origin::start(accepting("t")), Origin::start(accepting("t")));
    let text = |server: &Origin| {
        format!(
            "{{clusters: [{{name: c, cluster: {{server: 'http://{}'}}}}], users: [{{name: u, user: {{token: t}}}}], \
             contexts: [{{name: x, context: {{cluster: c, user: u}}}}], current-context: x}}",
            server.address()
        )
    };
    let kubeconfig = file(&text(&one));
    let intervals = Intervals { recheck: Duration::ZERO, ..AT_ONCE };
    let access = Access::Kubeconfig { path: kubeconfig.path().into(), context: None };
    let RemoteConnection { client, mut server } = with_intervals(access, intervals);
    assert_eq!(*server.borrow_and_update(), None);
    ask(&client).await.expect("it is there");
    assert_eq!(*server.borrow_and_update(), Some(format!("http://{}/", one.address())));
    ask(&client).await.expect("it still is");
    assert!(!server.has_changed().expect("it lives as long as the client"));
    fs::write(kubeconfig.path(), text(&other)).expect("it can be written");
    ask(&client).await.expect("the other one is there");
    assert_eq!(*server.borrow_and_update(), Some(format!("http://{}/", other.address())));
}

#[tokio::test]
async fn a_kubeconfigs_token_file_is_read_again() {
    let api_server = Origin::start(accepting("one"));
    let token = file("one\n");
    let kubeconfig = file(&format!(
        "{{clusters: [{{name: c, cluster: {{server: 'http://{}'}}}}], users: [{{name: u, user: {{tokenFile: '{}'}}}}], \
         contexts: [{{name: x, context: {{cluster: c, user: u}}}}], current-context: x}}",
        api_server.address(),
        token.path().display()
    ));
    let client = with_intervals(Access::Kubeconfig { path: kubeconfig.path().into(), context: None }, AT_ONCE).client;
    ask(&client).await.expect("the token is accepted");
    fs::write(token.path(), "two\n").expect("it can be written");
    api_server.set(accepting("two"));
    ask(&client).await.expect_err("the old one is not any more");
    ask(&client).await.expect("the new one is");
}

#[tokio::test]
async fn a_problem_that_is_over_is_told_again_when_it_comes_back() {
    let api_server = Origin::start(accepting("one"));
    let token = file("one\n");
    let access = plain(&api_server, Token::File(token.path().into()));
    let always = Intervals { recheck: Duration::ZERO, ..AT_ONCE };
    let following = Following::new(access, Environment::default(), always, None);
    let client = following.clone().client("default");
    for content in ["one\n", "", "one\n", "", "one\n"] {
        fs::write(token.path(), content).expect("it can be written");
        ask(&client).await.expect("the last good token stays in use");
        assert_eq!(following.current.lock().logged.is_some(), content.is_empty());
    }
}

/// An API server and a server that tells its certificates, each with TLS.
struct Vouched {
    old: Authority,
    new: Authority,
    /// Vouches for what the certificates come from.
    root: NamedTempFile,
    api_server: TlsRelay,
    list: Origin,
    list_front: TlsRelay,
    _behind: Origin,
}

impl Vouched {
    async fn new() -> Self {
        let (old, new, root) = (Authority::new("old"), Authority::new("new"), Authority::new("root"));
        let behind = Origin::start(accepting("t"));
        let list = Origin::start(Reply::ok(old.pem()));
        let api_server = tls_front(&old, &behind).await;
        let list_front = tls_front(&root, &list).await;
        Self { root: file(&root.pem()), old, new, api_server, list, list_front, _behind: behind }
    }

    fn access(&self, vouched_by: &NamedTempFile) -> Access {
        let url = |address| Url::parse_protected(&format!("https://{address}/ca/bundle.pem")).expect("a URL");
        Access::Server {
            url: Url::parse(&format!("https://{}", self.api_server.address)).expect("a URL"),
            trust: Trust::Url { url: url(self.list_front.address), vouched_by: Some(vouched_by.path().into()) },
            token: Token::Given(Secret::new("t")),
        }
    }
}

#[tokio::test]
async fn certificates_are_fetched_and_fetched_again_when_they_change() {
    let vouched = Vouched::new().await;
    let client = with_intervals(vouched.access(&vouched.root), AT_ONCE).client;
    ask(&client).await.expect("the server shows a certificate of those that were told");
    let fetched = vouched.list.requests();
    assert_eq!((fetched.len(), fetched[0].target.as_str()), (1, "/ca/bundle.pem"));
    assert!(!String::from_utf8_lossy(&fetched[0].head).to_lowercase().contains("authorization"), "a token is not told");
    // The server changes its certificate, and the list follows.
    vouched.list.set(Reply::ok(vouched.new.pem() + &vouched.old.pem()));
    vouched.api_server.show(vouched.new.issue(&["127.0.0.1"]).server(&[]));
    vouched._behind.reset_all().await;
    testkit::eventually!("the new certificate is trusted", ask(&client).await.is_ok(), |trusted| *trusted);
    assert!(vouched.list.requests().len() >= 2);
}

#[tokio::test]
async fn a_server_whose_authority_is_no_longer_listed_is_not_trusted() {
    let vouched = Vouched::new().await;
    let intervals = Intervals { recheck: Duration::ZERO, refetch: Duration::ZERO, ..AT_ONCE };
    let client = with_intervals(vouched.access(&vouched.root), intervals).client;
    ask(&client).await.expect("the server shows a certificate of those that were told");
    vouched.list.set(Reply::ok(vouched.new.pem()));
    let refused = ask(&client).await.expect_err("its certificate is not among them any more");
    assert!(refused.contains("certificate"), "{refused}");
}

#[tokio::test]
async fn certificates_that_cannot_be_fetched_stay_in_use() {
    let vouched = Vouched::new().await;
    let intervals = Intervals { recheck: Duration::ZERO, refetch: Duration::ZERO, ..AT_ONCE };
    let client = with_intervals(vouched.access(&vouched.root), intervals).client;
    ask(&client).await.expect("the server shows a certificate of those that were told");
    for broken in [Reply::new(503), Reply::ok("no certificates"), Reply::ok(""), Reply::ok("x".repeat(2 << 20))] {
        vouched.list.set(broken);
        ask(&client).await.expect("the old ones stay in use");
    }
    vouched.list.stop_listening().await;
    ask(&client).await.expect("the old ones stay in use");
}

#[tokio::test]
async fn certificates_from_an_untrusted_server_are_not_taken() {
    let vouched = Vouched::new().await;
    let stranger = file(&vouched.new.pem());
    let client = with_intervals(vouched.access(&stranger), AT_ONCE).client;
    let refused = ask(&client).await.expect_err("whoever tells them cannot be trusted");
    assert!(refused.contains("cannot fetch the certificates at https://"), "{refused}");
    vouched._behind.assert_untouched();
    vouched.list.assert_untouched();
}

/// The server's certificate and whoever stands in between are shown by the server; only the root is told.
#[tokio::test]
async fn the_whole_chain_is_verified() {
    let vouched = Vouched::new().await;
    vouched.api_server.show(vouched.old.under("between").issue(&["127.0.0.1"]).server(&[]));
    ask(&with_intervals(vouched.access(&vouched.root), AT_ONCE).client)
        .await
        .expect("the chain leads to the one that was told");
    vouched.api_server.show(vouched.new.under("between").issue(&["127.0.0.1"]).server(&[]));
    let refused = ask(&with_intervals(vouched.access(&vouched.root), AT_ONCE).client).await;
    let refused = refused.expect_err("this chain leads to somebody else");
    assert!(refused.contains("certificate"), "{refused}");
}

#[tokio::test]
async fn certificates_may_stand_in_a_file() {
    let vouched = Vouched::new().await;
    let access = |certificates: &NamedTempFile| match vouched.access(&vouched.root) {
        Access::Server { url, token, .. } => {
            Access::Server { url, trust: Trust::File(certificates.path().into()), token }
        }
        other => other,
    };
    let right = file(&vouched.old.pem());
    ask(&with_intervals(access(&right), AT_ONCE).client).await.expect("they vouch for the server");
    let wrong = file(&vouched.new.pem());
    ask(&with_intervals(access(&wrong), AT_ONCE).client).await.expect_err("they vouch for another one");
    let none = file("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let refused = ask(&with_intervals(access(&none), AT_ONCE).client).await.expect_err("that is no certificate");
    assert!(refused.contains(&none.path().display().to_string()), "{refused}");
}
