//! Turns checked settings into a service that sends requests, for every API server.

use std::time::Duration;

use hyper::{
    Request, Response,
    body::Incoming,
    header::{AUTHORIZATION, HeaderValue, USER_AGENT},
};
use hyper_rustls::{FixedServerNameResolver, HttpsConnectorBuilder};
use hyper_util::{client::legacy, rt::TokioExecutor};
use kube::{
    Config,
    client::{Body, ConfigExt as _},
};
use rustls::pki_types::ServerName;
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder, ServiceExt as _, util::BoxCloneSyncService};

use super::{
    connect::{bounded, connector},
    plugin::Credential,
    read::{ClientSettings, LoadError},
    tls,
};

/// The user agent, which API servers write to their audit logs.
pub(super) const AGENT: &str = concat!("fanfare/", env!("CARGO_PKG_VERSION"));

/// The longest time until an answer begins. It is longer than an API server's own time-out; callers have shorter deadlines of their
/// own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// Sends requests to one server: their URLs are paths on it.
pub(super) type Sender = BoxCloneSyncService<Request<Body>, Response<Incoming>, BoxError>;

/// Makes a sender. Nothing is connected yet.
///
/// # Errors
/// [`LoadError`] if its certificates cannot be used.
pub(super) fn sender(settings: &ClientSettings, credential: Option<&Credential>) -> Result<Sender, LoadError> {
    let ClientSettings {
        server,
        namespace: _,
        roots,
        insecure: _,
        server_name,
        identity,
        authorization,
        plugin: _,
        impersonation,
        proxy,
    } = settings;
    let failed = |why| LoadError::Client { url: server.to_string(), why };
    let mut config = Config::new(server.uri().clone());
    let authorization = credential.and_then(|credential| credential.authorization.as_ref()).or(authorization.as_ref());
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    config.headers.extend(authorization.map(|value| (AUTHORIZATION, value.clone())));
    config.headers.extend(impersonation.iter().cloned());

    let identity = credential.and_then(|credential| credential.identity.as_ref()).or(identity.as_ref());
    let mut tls = HttpsConnectorBuilder::new()
        .with_tls_config(tls::to_server(settings, identity).map_err(failed)?)
        .https_or_http();
    if let Some(name) = server_name {
        let name = ServerName::try_from(name.clone());
        let name = name.map_err(|error| failed(format!("tls-server-name {server_name:?}: {error}")))?;
        tls = tls.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let connector = connector(proxy.as_ref(), roots.as_deref()).map_err(failed)?;
    let connector = tls.enable_http1().wrap_connector(connector);
    let pool = legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(bounded(connector));
    let fields = config.extra_headers_layer().map_err(|error| failed(crate::watch::chain(&error)))?;
    let service = ServiceBuilder::new().layer(config.base_uri_layer()).layer(fields).service(pool);
    let service = tower::service_fn(move |request| {
        let service = service.clone();
        async move {
            match timeout(ANSWER_TIMEOUT, service.oneshot(request)).await {
                Ok(answer) => answer.map_err(|error| Box::new(error) as BoxError),
                Err(_elapsed) => Err(format!("no answer within {ANSWER_TIMEOUT:?}").into()),
            }
        }
    });
    Ok(Sender::new(service))
}
