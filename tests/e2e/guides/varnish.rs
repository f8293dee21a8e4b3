//! Purging and banning in two real Varnishes.

use testkit::{
    client,
    consumers::varnish,
    origin::{Origin, Reply, Script},
};

use super::Guide;

#[tokio::test]
async fn a_purge_and_a_ban_reach_every_varnish() {
    let guide = Guide::named("purge-varnish");
    let origin = Origin::start(Script::on_request(|_: &_| Reply::ok("a page").header("cache-control", "max-age=600")));
    let (host, port) = (origin.address().ip().to_string(), origin.address().port().to_string());
    let vcl = guide.file("vcl 4.1;", &[("shop-origin", &host), ("\"80\"", &format!("\"{port}\""))]);
    let caches = [varnish(&vcl).await, varnish(&vcl).await];
    let addresses = caches.each_ref().map(|cache| cache.address());
    let fanfare = guide.fanfare("0.0.0.0:8080", "{service: shop/varnish, port: http}", &addresses).await;

    let site = [("Host", "shop.example")];
    let paths = ["/logo.png", "/news/1", "/about"];
    let read = async || {
        for address in addresses {
            for path in paths {
                client::request(address, "GET", path, &site, b"").await.complete().expect_status(200);
            }
        }
        origin.requests().len()
    };
    assert_eq!(read().await, 6, "every cache asks once for each page");
    assert_eq!(read().await, 6, "then they have them");
    let printed = guide.curl("fanfare:8080", fanfare.address()).await;
    for answer in &printed {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.to_ascii_lowercase().contains("x-broadcast-result: total=2, ok=2,"), "{answer}");
    }
    assert_eq!(read().await, 10, "each asks again for the purged page and the banned one, and for no other");
    let last: Vec<String> = origin.requests()[6..].iter().map(|request| request.target.clone()).collect();
    assert_eq!(last.iter().filter(|target| *target == "/about").count(), 0, "{last:?}");
    // Nothing else goes through.
    client::request(fanfare.address(), "GET", "/about", &site, b"").await.complete().expect_status(403);
}
