//! nginx: upstreams for HTTP and for streams.

use std::path::Path;

use export::{backend::Members, render::FormatOptions};
use testkit::{
    consumers::{
        Nginx, nginx,
        traffic::{get, status, who},
    },
    eventually,
};

use crate::{
    fixture::service,
    shop::{Folder, check_draining, moments, origin, rendered, with},
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_starts_while_a_service_that_it_names_is_scaled_to_nothing() {
    let web = origin("web");
    let folder = Folder::new();
    let port = web.address().port();
    let there = with(service("shop/web"), &[&web]);
    let files =
        moments("nginx", Members::Ready, &[there.clone(), there.clone().idle(), there.clone().idle().unread(), there]);
    for (number, file) in files.iter().enumerate() {
        folder.write("upstreams.conf", file);
        let include = format!("include {};\n", folder.file("upstreams.conf").display());
        let server = format!("server {{ listen LISTEN; location / {{ proxy_pass http://web-{port}; }} }}\n");
        let nginx = nginx(Nginx { http: include + &server, ..Nginx::default() }).await;
        let expected = if matches!(number, 0 | 3) { "web" } else { "502" };
        assert_eq!(who(nginx.address(), &get("shop.example", "/", "")).await, expected, "moment {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_drains_an_endpoint_that_terminates_while_another_is_ready() {
    let start = async |upstreams: &Path| {
        let include = format!("include {};\n", upstreams.display());
        let server = "server { listen LISTEN; location / { proxy_pass http://web-http; } }\n";
        nginx(Nginx { http: include + server, ..Nginx::default() }).await
    };
    check_draining("nginx", start).await;
}
