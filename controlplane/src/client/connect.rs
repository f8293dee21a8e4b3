//! A connection to a server, straight or through a proxy, within a time limit.

use std::{error::Error, io, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::{Uri, header::HeaderValue};
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{
        HttpConnector,
        proxy::{SocksV5, Tunnel},
    },
    rt::TokioIo,
};
use tokio::{net::TcpStream, time::timeout};
use tower::{BoxError, Service, ServiceExt as _, util::BoxCloneSyncService};

use super::{
    proxy::{Credentials, Proxy, ProxyKind},
    tls,
};

/// The time limit of a connection attempt: DNS, TCP, the proxy and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to the given URL.
///
/// The error is a concrete type instead of a boxed one, which the compiler cannot resolve in boxed futures.
pub(super) type Connector = BoxCloneSyncService<Uri, Connected, io::Error>;

/// A connection to a server or to a proxy, the latter with TLS if its URL is `https`. TLS with the server runs inside of it.
type Connected = MaybeHttpsStream<TokioIo<TcpStream>>;

/// The error of a connection through a SOCKS proxy. It does not give its cause as its `source`.
type SocksError = <SocksV5<HttpConnector> as Service<Uri>>::Error;

/// A connection through a proxy that failed.
#[derive(Debug, thiserror::Error)]
#[error("no connection through the proxy {proxy}: {why}")]
struct ProxyFailure {
    proxy: String,
    why: String,
}

/// Connects straight, or through the proxy. A proxy with TLS is trusted if its certificate is signed by an authority that the system
/// trusts or by one of these, which are those of the server.
///
/// # Errors
/// A text if there is no authority to verify a proxy with TLS.
pub(super) fn connector(proxy: Option<&Proxy>, roots: Option<&[Vec<u8>]>) -> Result<Connector, String> {
    let mut straight = HttpConnector::new();
    straight.enforce_http(false);
    straight.set_nodelay(true);
    let Some(proxy) = proxy else {
        return Ok(Connector::new(straight.map_response(Connected::Http).map_err(io::Error::other)));
    };
    let address = proxy.address.clone();
    Ok(match (proxy.kind, &proxy.credentials) {
        (ProxyKind::Http, credentials) => {
            through(proxy, tunnel(address, straight, credentials.as_ref()), Connected::Http)
        }
        (ProxyKind::Https, credentials) => {
            let tls = HttpsConnectorBuilder::new().with_tls_config(tls::to_proxy(roots)?).https_only().enable_http1();
            let tunnel = tunnel(address, tls.wrap_connector(straight), credentials.as_ref());
            through(proxy, tunnel, |connected| connected)
        }
        (ProxyKind::Socks5, Some(Credentials { user, password })) => {
            let socks = SocksV5::new(address, straight).with_auth(user.clone(), password.clone());
            through(proxy, socks, Connected::Http)
        }
        (ProxyKind::Socks5, None) => through(proxy, SocksV5::new(address, straight), Connected::Http),
    })
}

fn tunnel<C>(proxy: Uri, connector: C, credentials: Option<&Credentials>) -> Tunnel<C> {
    let tunnel = Tunnel::new(proxy, connector);
    match credentials {
        Some(Credentials { user, password }) => tunnel.with_auth(basic(user, password)),
        None => tunnel,
    }
}

/// Makes a connector through a proxy, with the proxy's name in its errors.
fn through<C>(proxy: &Proxy, connector: C, connected: fn(C::Response) -> Connected) -> Connector
where
    C: Service<Uri> + Clone + Send + Sync + 'static,
    C::Response: 'static,
    C::Future: Send + 'static,
    C::Error: Error + Send + Sync + 'static,
{
    let proxy = proxy.to_string();
    let connector = connector.map_request(with_port).map_response(connected);
    Connector::new(connector.map_err(move |error| io::Error::other(ProxyFailure { proxy, why: why(&error) })))
}

/// Adds its default port to a URL without TLS, because a proxy would be asked for port 443 otherwise.
fn with_port(uri: Uri) -> Uri {
    let (Some(host), None, Some("http")) = (uri.host(), uri.port_u16(), uri.scheme_str()) else { return uri };
    let with_port = format!("http://{host}:80/").parse();
    with_port.unwrap_or(uri)
}

/// The text of an error with its causes. That of a SOCKS proxy gives its cause only by its type.
fn why(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref() {
        Some(SocksError::Inner(inner)) => crate::watch::chain(inner),
        Some(SocksError::Io(inner)) => format!("{error}: {inner}"),
        _ => crate::watch::chain(error),
    }
}

/// The value of a header field with `Basic` credentials (RFC 7617).
pub(super) fn basic(user: &str, password: &str) -> HeaderValue {
    let encoded = BASE64_STANDARD.encode(format!("{user}:{password}"));
    let mut value = HeaderValue::try_from(format!("Basic {encoded}")).expect("base64 is printable ASCII");
    value.set_sensitive(true);
    value
}

/// Limits the time that connecting may take.
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
