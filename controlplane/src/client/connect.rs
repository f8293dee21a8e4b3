//! A connection to a server, straight or through a proxy, within a time limit.

use std::{error::Error, io, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::{Uri, header::HeaderValue};
use hyper_util::{
    client::legacy::connect::{
        HttpConnector,
        proxy::{SocksV5, Tunnel},
    },
    rt::TokioIo,
};
use tokio::{net::TcpStream, time::timeout};
use tower::{BoxError, Service, ServiceExt as _, util::BoxCloneSyncService};

use super::proxy::{Credentials, Kind, Proxy};

/// How long connecting may take: names, TCP, the proxy and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to whatever URL it is given.
///
/// Its errors are of a type of their own, and not boxed ones, which the compiler cannot see through where it boxes futures.
pub(super) type Connector = BoxCloneSyncService<Uri, TokioIo<TcpStream>, io::Error>;

/// What a SOCKS proxy gives instead of a connection. Its cause is no `source`.
type SocksError = <SocksV5<HttpConnector> as Service<Uri>>::Error;

/// A proxy that gives no connection.
#[derive(Debug, thiserror::Error)]
#[error("no connection through the proxy {proxy}: {why}")]
struct NoWay {
    proxy: String,
    why: String,
}

/// Connects straight, or through the proxy.
pub(super) fn connector(proxy: Option<&Proxy>) -> Connector {
    let mut straight = HttpConnector::new();
    straight.enforce_http(false);
    straight.set_nodelay(true);
    let Some(proxy) = proxy else {
        return Connector::new(straight.map_err(io::Error::other));
    };
    let address = proxy.address.clone();
    match (proxy.kind, &proxy.credentials) {
        (Kind::Http, credentials) => {
            let mut tunnel = Tunnel::new(address, straight);
            if let Some(Credentials { user, password }) = credentials {
                tunnel = tunnel.with_auth(basic(user, password));
            }
            through(proxy, tunnel)
        }
        (Kind::Socks5, Some(Credentials { user, password })) => {
            through(proxy, SocksV5::new(address, straight).with_auth(user.clone(), password.clone()))
        }
        (Kind::Socks5, None) => through(proxy, SocksV5::new(address, straight)),
    }
}

/// The same, with the proxy's name in what goes wrong.
fn through<C>(proxy: &Proxy, connector: C) -> Connector
where
    C: Service<Uri, Response = TokioIo<TcpStream>> + Clone + Send + Sync + 'static,
    C::Future: Send + 'static,
    C::Error: Error + Send + Sync + 'static,
{
    let proxy = proxy.to_string();
    let connector = connector.map_request(with_port);
    Connector::new(connector.map_err(move |error| io::Error::other(NoWay { proxy, why: why(&error) })))
}

/// The URL with its port: where there is none, a proxy would be asked for 443.
fn with_port(uri: Uri) -> Uri {
    let (Some(host), None, Some("http")) = (uri.host(), uri.port_u16(), uri.scheme_str()) else { return uri };
    let with_port = format!("http://{host}:80/").parse();
    with_port.unwrap_or(uri)
}

/// What went wrong: the error of a SOCKS proxy keeps its cause to itself where it is
/// not asked for by type.
fn why(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref() {
        Some(SocksError::Inner(inner)) => crate::watch::chain(inner),
        Some(SocksError::Io(inner)) => format!("{error}: {inner}"),
        _ => crate::watch::chain(error),
    }
}

/// `Basic` credentials (RFC 7617), as a field has them.
pub(super) fn basic(user: &str, password: &str) -> HeaderValue {
    let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 has what a field may have");
    value.set_sensitive(true);
    value
}

/// Gives up connecting after a while.
pub(super) fn bounded<C>(connector: C) -> BoxCloneSyncService<Uri, C::Response, io::Error>
where
    C: Service<Uri, Error = BoxError> + Clone + Send + Sync + 'static,
    C::Response: 'static,
    C::Future: Send + 'static,
{
    BoxCloneSyncService::new(tower::service_fn(move |uri| {
        let connector = connector.clone();
        async move {
            match timeout(CONNECT_TIMEOUT, connector.oneshot(uri)).await {
                Ok(connected) => connected.map_err(io::Error::other),
                Err(_elapsed) => Err(io::Error::other(format!("no connection within {CONNECT_TIMEOUT:?}"))),
            }
        }
    }))
}
