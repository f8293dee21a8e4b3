//! HAProxy: backends and map.

use export::render::FormatOptions;
use testkit::{
    consumers::{
        haproxy,
        traffic::{get, status, who},
    },
    eventually,
};

use crate::{
    fixture::service,
    shop::{Folder, origin, rendered, with},
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
