//! nginx: upstreams for HTTP and for streams.

use export::render::FormatOptions;
use testkit::{
    consumers::{
        Nginx, nginx,
        traffic::{get, status, who},
    },
    eventually,
};

use crate::{
    fixture::service,
    shop::{Folder, origin, rendered, with},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_passes_requests_to_its_upstreams() {
    let web = origin("web");
    let folder = Folder::new();
    let services = [with(service("shop/web"), &[&web]), service("shop/idle").http(&["192.0.2.1:8080 down"])];
    folder.write("upstreams.conf", &rendered("nginx", &FormatOptions::default(), services));
    let servers = format!(
        "include {};\nserver {{ listen LISTEN; server_name shop.example; location / {{ proxy_pass http://web-http; }} }}\n\
         server {{ listen LISTEN; server_name idle.example; location / {{ proxy_pass http://idle-http; }} }}\n",
        folder.file("upstreams.conf").display()
    );
    let nginx = nginx(Nginx { http: servers, ..Nginx::default() }).await;
    let to = nginx.address();
    eventually!("an answer", status(to, &get("shop.example", "/", "")).await, |status| *status == Some(200));
    assert_eq!(who(to, &get("shop.example", "/", "")).await, "web");
    assert_eq!(who(to, &get("idle.example", "/", "")).await, "502", "nobody is tried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_passes_streams_to_its_upstreams() {
    let web = origin("web");
    let folder = Folder::new();
    folder.write(
        "upstreams.conf",
        &rendered("nginx-stream", &FormatOptions::default(), [with(service("shop/web"), &[&web])]),
    );
    let stream = format!(
        "include {};\nserver {{ listen LISTEN; proxy_pass web-http; }}\n",
        folder.file("upstreams.conf").display()
    );
    let nginx = nginx(Nginx { stream, ..Nginx::default() }).await;
    let request = get("shop.example", "/", "");
    eventually!("an answer", status(nginx.address(), &request).await, |status| *status == Some(200));
    assert_eq!(who(nginx.address(), &request).await, "web");
}
