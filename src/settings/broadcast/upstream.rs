//! How `fanfare broadcast` speaks TLS to endpoints.

use std::path::PathBuf;

use runtime::tls::{NameTemplate, San};

use crate::settings::{
    List, Setting, flag, group,
    values::{boolean, parsed, path},
};

/// TLS to the endpoints of a route.
const TLS: &str = "broadcast[].routes[].to.tls";

group!(GROUP, "TLS to endpoints";
    UPSTREAM_TLS: Setting<bool> = flag("upstream-tls").at(TLS, "enabled").switch(boolean),
        "Whether TLS is used for endpoints: for all, or with false for none. Without it, for those with https:// in \
         their list or appProtocol https, and if another setting of TLS to endpoints is given, for all except those \
         with http:// in their list";
    UPSTREAM_CA: Setting<PathBuf> = flag("upstream-ca").at(TLS, "ca").default("the system's").one("PATH", path),
        "CA certificates (PEM) that endpoints are verified with. Read again when it changes";
    UPSTREAM_SERVER_NAME: Setting<NameTemplate> = flag("upstream-server-name").at(TLS, "server_name")
        .default("<service>.<namespace>.svc, else the host name, else the address").one("NAME", parsed),
        "Name for SNI that endpoints must have in their certificate; {pod}, {service} and {namespace} are replaced";
    UPSTREAM_SAN: List<San> = flag("upstream-san").at(TLS, "san").many("NAME|URI", parsed),
        "Name that must be in the certificate of an endpoint instead of that one, such as a SPIFFE id; of several, one";
    UPSTREAM_CERT: Setting<PathBuf> = flag("upstream-cert").at(TLS, "cert").one("PATH", path),
        "Client certificate (PEM), with its chain, for endpoints; with its --upstream-key. Read again when it changes";
    UPSTREAM_KEY: Setting<PathBuf> = flag("upstream-key").at(TLS, "key").one("PATH", path),
        "Private key (PEM) of that certificate, not encrypted";
    UPSTREAM_INSECURE: Setting<bool> = flag("upstream-insecure").at(TLS, "insecure").default("false").switch(boolean),
        "Certificates of endpoints are not verified, so that an attacker on the network can read and change requests";
);
