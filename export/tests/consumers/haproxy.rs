//! HAProxy: backends and map.

use export::{backend::Members, render::FormatOptions};
use testkit::{
    consumers::{
        haproxy,
        traffic::{get, status, who},
    },
    eventually,
};

use crate::{
    fixture::service,
    shop::{Folder, check_draining, moments, origin, rendered, with},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_finds_the_backend_by_the_map() {
    let (web, cart) = (origin("web"), origin("cart"));
    let folder = Folder::new();
    let options = FormatOptions::default();
    let services = || {
        [
            with(service("shop/web").annotation("fanfare/host", "shop.example"), &[&web]),
            with(
                service("shop/cart").annotation("fanfare/host", "shop.example").annotation("fanfare/path", "/cart"),
                &[&cart],
            ),
            service("shop/idle").annotation("fanfare/host", "idle.example").http(&["192.0.2.1:8080 down"]),
        ]
    };
    folder.write("backends.cfg", &rendered("haproxy", &options, services()));
    folder.write("hosts.map", &rendered("haproxy-map", &options, services()));
    let map = folder.file("hosts.map");
    let frontend = format!("  use_backend %[base,map_beg({})]\n", map.display());
    let haproxy = haproxy(&frontend, &folder.file("backends.cfg")).await;
    let to = haproxy.address();
    eventually!("an answer", status(to, &get("shop.example", "/", "")).await, |status| *status == Some(200));
    let wanted = [
        ("shop.example", "/x", "web"),
        ("shop.example", "/cart/1", "cart"),
        ("idle.example", "/", "503"),
        ("shop.example.else", "/", "503"),
    ];
    for (host, path, name) in wanted {
        assert_eq!(who(to, &get(host, path, "")).await, name, "{host}{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_starts_while_a_service_that_it_names_is_scaled_to_nothing() {
    let web = origin("web");
    let folder = Folder::new();
    let port = web.address().port();
    let there = with(service("shop/web"), &[&web]);
    let restarted = service("shop/web").http(&[]).target(port).idle();
    let files = [
        moments(
            "haproxy",
            Members::Ready,
            &[there.clone(), there.clone().idle(), there.clone().idle().unread(), there],
        ),
        moments("haproxy", Members::Ready, &[restarted]),
    ];
    for (number, file) in files.concat().iter().enumerate() {
        folder.write("backends.cfg", file);
        let frontend = format!("  default_backend web-{port}\n");
        // As a reload does: it reads the whole configuration again, and keeps the old one if the new one is invalid.
        let haproxy = haproxy(&frontend, &folder.file("backends.cfg")).await;
        let expected = if matches!(number, 0 | 3) { "web" } else { "503" };
        assert_eq!(who(haproxy.address(), &get("shop.example", "/", "")).await, expected, "moment {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_drains_an_endpoint_that_terminates_while_another_is_ready() {
    check_draining("haproxy", async |backends| haproxy("  default_backend web-http\n", backends).await).await;
}
