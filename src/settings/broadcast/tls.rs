//! What the listener of `fanfare broadcast` shows by TLS, and which clients it takes.

use std::path::PathBuf;

use runtime::tls::{ClientAuth, MinVersion};

use crate::settings::{Setting, flag, group, values::path};

/// TLS of a listener.
const TLS: &str = "broadcast[].tls";

/// A certificate of a listener.
const CERTIFICATE: &str = "broadcast[].tls.certificates[]";

group!(GROUP, "TLS to clients";
    TLS_CERT: Setting<PathBuf> = flag("tls-cert").at(CERTIFICATE, "cert").each("PATH", path),
        "Server certificate (PEM), with its chain; it turns on TLS. Of several, each with its --tls-key, the name \
         that a client sends (SNI) selects one, and the first is the default. Read again \
         when it changes";
    TLS_KEY: Setting<PathBuf> = flag("tls-key").at(CERTIFICATE, "key").each("PATH", path),
        "Private key (PEM) of that certificate, not encrypted";
    TLS_CLIENT_CA: Setting<PathBuf> = flag("tls-client-ca").at(TLS, "client_ca").one("PATH", path),
        "CA certificates (PEM) that client certificates are verified with; without it no client certificate is \
         requested. \
         Read again when it changes";
    TLS_CLIENT_AUTH: Setting<ClientAuth> = flag("tls-client-auth").at(TLS, "client_auth").default("require")
        .one("require|request", client_auth),
        "Whether clients must have a certificate, or may do without; one that they have must be valid either way";
    TLS_MIN_VERSION: Setting<MinVersion> = flag("tls-min-version").at(TLS, "min_version").default("1.2")
        .one("1.2|1.3", min_version),
        "Oldest version of TLS that is accepted";
);

fn client_auth(text: &str) -> Result<ClientAuth, String> {
    match text {
        "require" => Ok(ClientAuth::Require),
        "request" => Ok(ClientAuth::Request),
        _ => Err(format!("{text:?} does not say whether clients need a certificate: use require or request")),
    }
}

fn min_version(text: &str) -> Result<MinVersion, String> {
    match text {
        "1.2" => Ok(MinVersion::Tls12),
        "1.3" => Ok(MinVersion::Tls13),
        _ => Err(format!("{text:?} is not a version of TLS that can be required: use 1.2 or 1.3")),
    }
}
