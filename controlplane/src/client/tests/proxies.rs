//! Proxies for API servers: which of them is used, what it is asked for, and that its password is never shown.

use testkit::forward_proxy::{ForwardProxy, Kind, ProxyRequest};

use super::*;

fn asked(target: &str, credentials: Option<&str>) -> ProxyRequest {
    ProxyRequest { target: target.to_owned(), credentials: credentials.map(str::to_owned) }
}

/// An API server with TLS whose name only the proxy can resolve.
struct Hidden {
    authority: Authority,
    front: TlsRelay,
    origin: Origin,
}

impl Hidden {
    async fn new() -> Self {
        let (authority, origin) = (Authority::new("root"), Origin::start(Reply::ok(VERSION)));
        let front = tls_front(&authority, &origin).await;
        Self { authority, front, origin }
    }

    /// What a kubeconfig says of the cluster.
    fn cluster(&self, more: &str) -> String {
        use base64::Engine as _;
        let authority = base64::prelude::BASE64_STANDARD.encode(self.authority.pem());
        format!(
            "server: 'https://api.hidden.test:6443', certificate-authority-data: {authority}, tls-server-name: 127.0.0.1{more}"
        )
    }
}

#[tokio::test]
async fn a_kubeconfigs_proxy_leads_to_its_server() {
    for (kind, scheme, credentials) in
        [(Kind::Http, "http", "Basic dXNlcjpzM0BjcmV0"), (Kind::Socks5, "socks5", "user:s3@cret")]
    {
        let hidden = Hidden::new().await;
        let proxy = ForwardProxy::start(kind, hidden.front.address).await;
        let url = format!(", proxy-url: '{scheme}://user:s3%40cret@{}'", proxy.address);
        let kubeconfig = kubeconfig(&hidden.cluster(&url), "token: t0ken");
        let connection = open_one(&kubeconfig, Environment::default()).await.expect("a valid kubeconfig");
        ask(&connection.client).await.unwrap_or_else(|why| panic!("{scheme}: {why}"));
        assert_eq!(proxy.asked(), [asked("api.hidden.test:6443", Some(credentials))]);
        let head = String::from_utf8_lossy(&hidden.origin.requests().remove(0).head).to_lowercase();
        assert!(head.contains("bearer t0ken") && !head.contains("proxy"), "{head}");
    }
}

/// A proxy behind TLS, with a certificate of this authority.
async fn with_tls(authority: &Authority, proxy: &ForwardProxy) -> TlsRelay {
    TlsRelay::in_front("127.0.0.1:0", authority.issue(&["127.0.0.1"]).server(&[]), proxy.address).await
}

#[tokio::test]
async fn a_proxy_with_tls_is_trusted_by_the_authority_of_the_server() {
    let hidden = Hidden::new().await;
    let proxy = ForwardProxy::start(Kind::Http, hidden.front.address).await;
    let front = with_tls(&hidden.authority, &proxy).await;
    let url = format!(", proxy-url: 'https://user:s3%40cret@{}'", front.address);
    let connection = open_one(&kubeconfig(&hidden.cluster(&url), "token: t0ken"), Environment::default()).await;
    ask(&connection.expect("a valid kubeconfig").client).await.expect("it is led there");
    assert_eq!(proxy.asked(), [asked("api.hidden.test:6443", Some("Basic dXNlcjpzM0BjcmV0"))]);
    assert_eq!(
        (front.handshakes(), hidden.front.handshakes()),
        (1, 1),
        "TLS with the server is inside of that with the proxy"
    );
}

#[tokio::test]
async fn a_proxy_with_an_untrusted_certificate_gets_no_request_and_no_credentials() {
    let hidden = Hidden::new().await;
    let proxy = ForwardProxy::start(Kind::Http, hidden.front.address).await;
    let front = with_tls(&Authority::new("stranger"), &proxy).await;
    let url = format!(", proxy-url: 'https://user:s3cret@{}'", front.address);
    let connection = open_one(&kubeconfig(&hidden.cluster(&url), ""), Environment::default()).await;
    let why = ask(&connection.expect("a valid kubeconfig").client).await.expect_err("it is not trusted");
    assert!(why.contains(&format!("proxy https://{}", front.address)) && why.contains("certificate"), "{why}");
    assert!(!why.contains("s3cret"), "{why}");
    assert_eq!(proxy.asked(), []);
    hidden.origin.assert_untouched();
}

#[tokio::test]
async fn the_environments_proxy_goes_by_the_servers_scheme() {
    let plain = Origin::start(Reply::ok(VERSION));
    let hidden = Hidden::new().await;
    let (for_tls, for_plain) = (
        ForwardProxy::start(Kind::Http, hidden.front.address).await,
        ForwardProxy::start(Kind::Socks5, plain.address()).await,
    );
    let environment = Environment {
        https: Some(format!("http://{}", for_tls.address)),
        http: Some(format!("socks5://{}", for_plain.address)),
        no: "other.test, 10.0.0.0/8".to_owned(),
    };
    let tls = open_one(&kubeconfig(&hidden.cluster(""), ""), environment.clone()).await.expect("a valid kubeconfig");
    ask(&tls.client).await.expect("it is led there");
    let without = kubeconfig("server: 'http://plain.hidden.test'", "");
    let without = open_one(&without, environment).await.expect("a valid kubeconfig");
    ask(&without.client).await.expect("it is led there");
    assert_eq!(for_tls.asked(), [asked("api.hidden.test:6443", None)]);
    assert_eq!(for_plain.asked(), [asked("plain.hidden.test:80", None)]);
}

#[tokio::test]
async fn a_server_that_no_proxy_covers_is_asked_directly() {
    let api_server = Origin::start(Reply::ok(VERSION));
    let proxy = ForwardProxy::start(Kind::Http, api_server.address()).await;
    let url = Some(format!("http://u:p@{}", proxy.address));
    let environment = Environment { https: url.clone(), http: url, no: "127.0.0.1".to_owned() };
    let kubeconfig = kubeconfig(&format!("server: 'http://{}'", api_server.address()), "");
    let connection = open_one(&kubeconfig, environment).await.expect("a valid kubeconfig");
    ask(&connection.client).await.expect("it is there");
    assert_eq!((proxy.asked(), api_server.requests().len()), (Vec::new(), 1));
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    for (kind, scheme) in [(Kind::Http, "http"), (Kind::Socks5, "socks5")] {
        let proxy = ForwardProxy::refusing(kind).await;
        let address = proxy.address;
        let of = |cluster: &str| kubeconfig(&format!("server: 'http://127.0.0.1:1', {cluster}"), "");
        let refusing = of(&format!("proxy-url: '{scheme}://user:s3cret@{address}'"));
        let connection = open_one(&refusing, Environment::default()).await.expect("a valid kubeconfig");
        let why = ask(&connection.client).await.expect_err("it is refused");
        assert!(why.contains(&format!("{scheme}://{address}")) && !why.contains("s3cret"), "{why}");
        drop(proxy);
        let gone =
            testkit::eventually!("it to be gone", ask(&connection.client).await.expect_err("it is gone"), |why| why
                .contains("refused"));
        assert!(gone.contains(&format!("{scheme}://{address}")) && !gone.contains("s3cret"), "{gone}");
    }
}

/// The certificates that vouch for a remote cluster come the same way as its answers.
#[tokio::test]
async fn certificates_are_fetched_through_the_proxy() {
    let hidden = Hidden::new().await;
    let list = Origin::start(Reply::ok(hidden.authority.pem()));
    let list_front = tls_front(&hidden.authority, &list).await;
    let proxy = ForwardProxy::start(Kind::Http, list_front.address).await;
    let environment = Environment { https: Some(proxy.address.to_string()), ..Environment::default() };
    // The certificate is for 127.0.0.1, which the URL must name, and which the proxy leads elsewhere.
    let url = access::Url::parse_protected("https://127.0.0.1:1/ca.pem").expect("a URL");
    let root = file(&hidden.authority.pem());
    let fetched = trust::fetched(&url, Some(root.path()), &environment, &mut None, INTERVALS.refetch()).await;
    assert_eq!(fetched.expect("they are there").len(), 1);
    assert_eq!(proxy.asked(), [asked("127.0.0.1:1", None)]);
}
