//! Settings of access control: which clients may send requests to `fanfare broadcast`, and how many.

use std::path::PathBuf;

use access::rate::Rate;
use ipnet::IpNet;
use proxy::config::Allow;

use super::LISTENER;
use crate::settings::{
    List, ROOT, Setting, flag, group,
    values::{network, parsed, path, positive},
};

/// How callers are known.
const AUTH: &str = "broadcast[].auth";

group!(GROUP, "Callers";
    ALLOW: List<Allow> = flag("allow").at(LISTENER, "allow").default("everything").many("METHODS PATH [by WHO]", allowed),
        "What may be requested, like 'PURGE,BAN /cache/*', and by whom, like 'PURGE /* by \
         token:ci,san:*.cms.svc,sa:shop/cms,cidr:10.0.0.0/8'. Other requests get 403, unknown callers 401 if a known \
         one may send it, and paths that an endpoint may read as one outside of the pattern 400";
    CONTROL_FROM: List<IpNet> = flag("control-from").at(LISTENER, "control_from").default("nobody")
        .commas("CIDR", network),
        "Networks of clients that may choose endpoints and policy of their requests; a rule of --allow grants this \
         with control at its end: 'PURGE /* by token:ci control'";
    AUTH_TOKENS: Setting<PathBuf> = flag("auth-tokens").at(AUTH, "tokens").one("PATH", path),
        "File of tokens that identify callers: lines name:token or name:sha256:<hex>; read again when it changes; an \
         invalid edit keeps the last good tokens";
    AUTH_SERVICE_ACCOUNTS: Setting<Box<str>> = flag("auth-service-accounts").at(AUTH, "service_accounts")
        .one("AUDIENCE", audience),
        "Callers are identified by tokens of Kubernetes service accounts for this audience, verified with the API \
         server's \
         keys";
    RATE_LIMIT: Setting<Rate> = flag("rate-limit").at(AUTH, "rate_limit").default("unlimited").one("RATE", parsed),
        "Rate limit of each identity, else of each client address (IPv6: each /64): 100/s,burst=200, or 600/m \
         or 1000/h; more get 429";
    MAX_CONNECTIONS_PER_CLIENT: Setting<usize> = flag("max-connections-per-client")
        .at(ROOT, "max_connections_per_client").default("unlimited").one("N", positive),
        "Connections of one client address at a time; one more gets 429";
);

/// What may be requested, and by whom.
fn allowed(text: &str) -> Result<Allow, String> {
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some("everything"), None) => Err("\"everything\" stands alone: take out the rest, or this".to_owned()),
        (Some("everything"), Some(_)) => Err("\"everything\" stands alone: write /* for every path".to_owned()),
        _ => parsed(text),
    }
}

/// What tokens of service accounts are for.
fn audience(text: &str) -> Result<Box<str>, String> {
    let valid = (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if valid {
        Ok(text.into())
    } else {
        Err(format!(
            "{text:?} is not an audience: use what tokens are asked for with, like fanfare or https://fanfare.example"
        ))
    }
}
