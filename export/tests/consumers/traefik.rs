//! Traefik, by file and by HTTP.

use controlplane::index::Protocol::Tcp;
use export::{
    backend::{Model, Names},
    render::{Format, FormatOptions},
};
use testkit::{
    client::RawClient,
    consumers::{
        Provider, traefik,
        traffic::{follows, get, status, who},
    },
    eventually,
    origin::{Origin, Reply},
};

use crate::{
    checkers::services,
    fixture::{catalog, service},
    shop::{Folder, addresses, origin, rendered, with},
};

/// The user's own configuration beside the exported one: a router that names a backend.
const ROUTER: &str = "http: {routers: {mine: {rule: \"Host(`mine.example`)\", service: web-http}}}";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traefik_follows_a_file_without_a_failed_request() {
    let folder = Folder::new();
    let origins = ["first", "second", "third"].map(origin);
    let write = async |origins: &[&Origin]| {
        let web = with(service("shop/web"), origins);
        folder.write("k8s.yaml", &rendered("traefik", &FormatOptions::default(), [web]));
    };
    write(&[&origins[0]]).await;
    folder.put("mine.yaml", ROUTER);
    let traefik = traefik(Provider::Folder(folder.path())).await;
    follows(traefik.address(), &get("mine.example", "/", ""), origins, write).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routers_from_annotations_lead_to_the_right_backend() {
    let folder = Folder::new();
    let (web, cart, api) = (origin("web"), origin("cart"), origin("api"));
    let options = FormatOptions { routers: true, ..FormatOptions::default() };
    let services = [
        with(service("shop/web").annotation("fanfare/host", "shop.example,www.shop.example"), &[&web]),
        with(
            service("shop/cart").annotation("fanfare/host", "shop.example").annotation("fanfare/path", "/cart"),
            &[&cart],
        ),
        with(
            service("shop/api").annotation("fanfare/host", "api.example").annotation("fanfare/entrypoints", "load"),
            &[&api],
        ),
        with(
            service("shop/secure").annotation("fanfare/host", "secure.example").annotation("fanfare/tls", "true"),
            &[&api],
        ),
        with(service("shop/idle").annotation("fanfare/host", "idle.example"), &[]),
        with(service("shop/evil").annotation("fanfare/host", "evil.example`) || Host(`shop.example"), &[&api]),
    ];
    folder.write("k8s.yaml", &rendered("traefik", &options, services));
    let traefik = traefik(Provider::Folder(folder.path())).await;
    let to = traefik.address();
    eventually!("routes", status(to, &get("shop.example", "/", "")).await, |status| *status == Some(200));
    let wanted = [
        ("shop.example", "/", "web"),
        ("www.shop.example", "/x", "web"),
        ("shop.example", "/cart/1", "cart"),
        ("api.example", "/", "api"),
        // Its router is for connections with TLS.
        ("secure.example", "/", "404"),
        ("evil.example", "/", "404"),
        ("else.example", "/", "404"),
    ];
    for (host, path, name) in wanted {
        assert_eq!(who(to, &get(host, path, "")).await, name, "{host}{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_configuration_does_not_stop_traefik_and_a_backend_without_endpoints_is_503() {
    let folder = Folder::new();
    let web = origin("web");
    folder.write("k8s.yaml", &rendered("traefik", &FormatOptions::default(), []));
    folder.put("mine.yaml", ROUTER);
    let traefik = traefik(Provider::Folder(folder.path())).await;
    let (to, request) = (traefik.address(), get("mine.example", "/", ""));
    let answers = async |wanted: u16| {
        eventually!("that answer", status(to, &request).await, |status| *status == Some(wanted));
    };
    // The router names a backend that does not exist.
    answers(404).await;
    let written = |services| folder.write("k8s.yaml", &rendered("traefik", &FormatOptions::default(), services));
    written(vec![with(service("shop/web"), &[&web])]);
    answers(200).await;
    written(vec![service("shop/web").http(&["192.0.2.1:8080 down"])]);
    answers(503).await;
    written(Vec::new());
    answers(404).await;
    written(vec![with(service("shop/web"), &[&web])]);
    answers(200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traefik_takes_every_protocol_and_name() {
    let folder = Folder::new();
    let web = origin("web");
    // To some parsers of YAML these are numbers, dates and booleans.
    let odd =
        ["1", "2001-01-02", "no", "1e3", "0x1f"].map(|name| service(&format!("shop/{name}")).http(&["127.0.0.1:9"]));
    let address = addresses(&[&web]);
    let tcp = service("shop/db").port("tcp", 1, Tcp, "", &[&address[0]]);
    let services = services().into_iter().chain(odd).chain([tcp]);
    let model = Model { names: "{service}".parse().expect("a template"), ..Model::default() };
    let backends = model.backends(&catalog(services), &mut Names::default());
    let format = Format::parse("traefik", &FormatOptions::default()).expect("a format");
    folder.write("k8s.yaml", &format.render(&backends).expect("it can be rendered"));
    folder.put("mine.yaml", "tcp: {routers: {mine: {rule: \"HostSNI(`*`)\", service: db}}}");
    let traefik = traefik(Provider::Folder(folder.path())).await;
    let request = get("any.example", "/", "");
    eventually!("an answer", status(traefik.address(), &request).await, |status| *status == Some(200));
    assert_eq!(who(traefik.address(), &request).await, "web", "by way of the tcp section");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traefik_reads_json_from_a_server() {
    let (web, other) = (origin("web"), origin("other"));
    let options = FormatOptions { routers: true, ..FormatOptions::default() };
    let reply = |origins: &[&Origin]| {
        let service = with(service("shop/web").annotation("fanfare/host", "shop.example"), origins);
        let rendered = rendered("traefik-json", &options, [service]);
        let file = &rendered.files[0];
        Reply::ok(&file.bytes).header("Content-Type", file.content_type)
    };
    let server = Origin::start(reply(&[&web]));
    let traefik = traefik(Provider::Http(&format!("http://{}/", server.address()))).await;
    let (to, request) = (traefik.address(), get("shop.example", "/", ""));
    eventually!("the first", who(to, &request).await, |name| name == "web");
    server.set(reply(&[&other]));
    eventually!("the other", who(to, &request).await, |name| name == "other");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traefik_checks_the_health_that_an_annotation_asks_for() {
    let folder = Folder::new();
    let (well, ill) = (origin("well"), Origin::start(Reply::new(500)));
    let web = with(service("shop/web"), &[&well, &ill]);
    let web = web.annotation("fanfare/health-path", "/up").annotation("fanfare/health-interval", "100ms");
    let web = web.annotation("fanfare/health-timeout", "5s");
    folder.write("k8s.yaml", &rendered("traefik", &FormatOptions::default(), [web]));
    folder.put("mine.yaml", ROUTER);
    let traefik = traefik(Provider::Folder(folder.path())).await;
    let request = get("mine.example", "/", "");
    // Without this every second request would be 500.
    eventually!("the one that is ill to be left out", answers(traefik.address(), &request, 8).await, |all| {
        all.iter().all(|name| name == "well")
    });
    assert!(ill.requests().iter().any(|request| request.target == "/up"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn traefik_keeps_a_client_with_its_endpoint_where_an_annotation_says_so() {
    let folder = Folder::new();
    let origins = ["first", "second"].map(origin);
    let web = with(service("shop/web"), &[&origins[0], &origins[1]]).annotation("fanfare/sticky", "shop");
    folder.write("k8s.yaml", &rendered("traefik", &FormatOptions::default(), [web]));
    folder.put("mine.yaml", ROUTER);
    let traefik = traefik(Provider::Folder(folder.path())).await;
    let request = get("mine.example", "/", "");
    eventually!("an answer", status(traefik.address(), &request).await, |status| *status == Some(200));
    let mut client = RawClient::connect(traefik.address()).await;
    client.send(&request).await;
    let answer = client.read_response("GET").await;
    let cookie = answer.header("set-cookie").and_then(|field| field.split(';').next()).unwrap_or_default().to_owned();
    assert!(cookie.starts_with("shop="), "{cookie}");
    let all = answers(traefik.address(), &get("mine.example", "/", &format!("Cookie: {cookie}\r\n")), 8).await;
    assert!(all.iter().all(|name| *name == all[0]), "{cookie}: {all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_with_weights_share_a_host() {
    let folder = Folder::new();
    let (web, canary, other) = (origin("web"), origin("canary"), origin("other"));
    let options = FormatOptions { routers: true, ..FormatOptions::default() };
    let asks = |name: &str, origin: &Origin, weight: &str| {
        let service = with(service(name), &[origin]).annotation("fanfare/host", "shop.example");
        service.annotation("fanfare/weight", weight)
    };
    let services = [
        asks("shop/web", &web, "3"),
        asks("shop/canary", &canary, "1"),
        with(
            service("shop/other").annotation("fanfare/host", "other.example").annotation("fanfare/weight", "1"),
            &[&other],
        ),
    ];
    folder.write("k8s.yaml", &rendered("traefik", &options, services));
    let traefik = traefik(Provider::Folder(folder.path())).await;
    let to = traefik.address();
    eventually!("an answer", status(to, &get("shop.example", "/", "")).await, |status| *status == Some(200));
    let all = answers(to, &get("shop.example", "/", ""), 16).await;
    let of = |name: &str| all.iter().filter(|one| *one == name).count();
    assert_eq!((of("web"), of("canary")), (12, 4), "{all:?}");
    assert_eq!(who(to, &get("other.example", "/", "")).await, "other", "one alone has all");
}

/// The names of the endpoints that answered `count` requests, sent one after the other.
async fn answers(to: std::net::SocketAddr, request: &str, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(who(to, request).await);
    }
    all
}
