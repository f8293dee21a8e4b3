//! A broadcaster as one would write it with pingora: its server reads the request, its connector has pooled connections to the
//! endpoints, all of which are asked at the same time, and the first endpoint's answer is passed on if all have succeeded.

mod access_log;
mod broadcast;

use std::net::SocketAddr;

use pingora_core::{
    apps::{HttpServerOptions, http_app::HttpServer},
    server::{Server, configuration::ServerConf},
    services::listening::Service,
};

use crate::{
    access_log::{AccessLog, Format},
    broadcast::Broadcast,
};

/// What the command line says.
struct Options {
    listen: String,
    endpoints: Vec<SocketAddr>,
    threads: usize,
    log: Option<(Format, String)>,
    /// HTTP/2 with clients, and with endpoints.
    http2: (bool, bool),
}

fn main() {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => return println!("rival-pingora {}", env!("CARGO_PKG_VERSION")),
        Err(why) => {
            eprintln!("{why}");
            std::process::exit(2);
        }
    };
    let log = match options.log.as_ref().map(|(format, file)| AccessLog::start(*format, file)).transpose() {
        Ok(log) => log,
        Err(error) => {
            eprintln!("cannot write the access log: {error}");
            std::process::exit(1);
        }
    };
    let conf = ServerConf {
        threads: options.threads,
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(1),
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut app = HttpServer::new_app(Broadcast::new(&options.endpoints, options.http2.1, log));
    let mut with_clients = HttpServerOptions::default();
    with_clients.h2c = options.http2.0;
    app.server_options = Some(with_clients);
    let mut service = Service::new("broadcast".to_owned(), app);
    service.add_tcp(&options.listen);
    server.add_service(service);
    server.run_forever();
}

impl Options {
    /// Reads the command line; none if only the version is asked for.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options =
            Self { listen: String::new(), endpoints: Vec::new(), threads: 1, log: None, http2: (false, false) };
        while let Some(flag) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--version" => return Ok(None),
                "--listen" => options.listen = value()?,
                "--endpoints" => {
                    let addresses = value()?;
                    let parsed = addresses.split(',').map(|address| address.parse().map_err(|_| address.to_owned()));
                    options.endpoints = parsed.collect::<Result<_, _>>().map_err(|bad| format!("no address: {bad}"))?;
                }
                "--threads" => options.threads = value()?.parse().map_err(|_| "--threads needs a number".to_owned())?,
                "--access-log-text" => options.log = Some((Format::Text, value()?)),
                "--access-log-json" => options.log = Some((Format::Json, value()?)),
                "--http2-clients" => options.http2.0 = true,
                "--http2-endpoints" => options.http2.1 = true,
                _ => return Err(format!("there is no {flag}")),
            }
        }
        if options.listen.is_empty() || options.endpoints.is_empty() {
            return Err("--listen and --endpoints are needed".to_owned());
        }
        Ok(Some(options))
    }
}
