//! Turns checked settings into a service that sends requests, for every API server.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{AUTHORIZATION, HeaderValue, USER_AGENT},
};
use hyper_util::{client::legacy, rt::TokioExecutor};
use kube::{
    Config,
    client::{Body, ConfigExt as _},
};
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder, ServiceExt as _, util::BoxCloneSyncService};

use super::{
    connect::{bounded, connector},
    plugin::Credential,
    read::{ClientSettings, LoadError},
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
    // The library uses the default crypto provider of the process. A second installation of the same provider fails, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ClientSettings {
        server,
        namespace: _,
        roots,
        insecure,
        server_name,
        identity,
        authorization,
        plugin: _,
        impersonation,
        proxy,
    } = settings;
    let failed = |error: kube::Error| LoadError::Client { url: server.to_string(), why: crate::watch::chain(&error) };
    let mut config = Config::new(server.uri().clone());
    config.root_cert.clone_from(roots);
    config.accept_invalid_certs = *insecure;
    config.tls_server_name.clone_from(server_name);
    if let Some(identity) = credential.and_then(|credential| credential.identity.as_ref()).or(identity.as_ref()) {
        // In base64, as in a kubeconfig, because kube reads them from there.
        config.auth_info.client_certificate_data = Some(BASE64_STANDARD.encode(&identity.certificate));
        config.auth_info.client_key_data = Some(BASE64_STANDARD.encode(&identity.key).into());
    }
    let authorization = credential.and_then(|credential| credential.authorization.as_ref()).or(authorization.as_ref());
    config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
    config.headers.extend(authorization.map(|value| (AUTHORIZATION, value.clone())));
    config.headers.extend(impersonation.iter().cloned());

    let connector = connector(proxy.as_ref(), roots.as_deref());
    let connector = connector.map_err(|why| LoadError::Client { url: server.to_string(), why })?;
    let tls = config.rustls_https_connector_with_connector(connector).map_err(failed)?;
    let pool = legacy::Client::builder(TokioExecutor::new()).build::<_, Body>(bounded(tls));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .layer(config.extra_headers_layer().map_err(failed)?)
        .service(pool);
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
