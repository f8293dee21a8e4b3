//! The command line of `fanfare status`: the admin listener, and how its certificate is verified.

use std::{fmt, path::PathBuf, str::FromStr};

use clap::{ArgMatches, Command, CommandFactory as _, FromArgMatches as _, Parser, error::ErrorKind};
use hyper::http::uri::Authority;
use rustls::pki_types::ServerName;

use super::commands::{Output, table_or_json};

/// Shows the state of a process: routes and endpoints, watches, elections, exports, mirrors and pending deliveries
///
/// It reads from the admin listener (--metrics-interface), with TLS if its address begins with https://
#[derive(Debug, Parser)]
pub(crate) struct Status {
    /// The admin listener of the process; https://HOST:PORT if it has a certificate (--metrics-tls-cert)
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8081")]
    pub(crate) admin: AdminAddress,
    /// Authorities (PEM) for the certificate of the listener, instead of those of the system
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub(crate) ca: Option<PathBuf>,
    /// Name that the certificate of the listener must have, instead of the host in --admin
    #[arg(long, value_name = "NAME", value_parser = server_name)]
    pub(crate) server_name: Option<ServerName<'static>>,
    /// File with the token for the listener (--metrics-tokens)
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub(crate) token_file: Option<PathBuf>,
    /// Tables, or JSON
    #[arg(short, long, value_name = "table|json", default_value = "table", value_parser = table_or_json)]
    pub(crate) output: Output,
    /// Refresh every two seconds, also while the process does not answer or restarts
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// The address of an admin listener, and whether it uses TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AdminAddress {
    pub(crate) is_tls: bool,
    /// Host and port.
    pub(crate) authority: Authority,
}

/// The subcommand.
pub(super) fn command() -> Command {
    Status::command().name("status")
}

/// Reads the arguments. Those about certificates are errors without TLS.
pub(super) fn read(matches: &ArgMatches) -> Result<Status, clap::Error> {
    let status = Status::from_arg_matches(matches)?;
    if !status.admin.is_tls && (status.ca.is_some() || status.server_name.is_some()) {
        let message = format!("--ca and --server-name are for a listener with TLS: --admin https://{}", status.admin);
        return Err(command().error(ErrorKind::ArgumentConflict, message));
    }
    Ok(status)
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned()).map_err(|_| "is neither a name nor an address".to_owned())
}

// === impl AdminAddress ===

impl AdminAddress {
    /// The host, as certificates have it.
    pub(crate) fn host(&self) -> &str {
        self.authority.host().trim_start_matches('[').trim_end_matches(']')
    }
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (is_tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, rest) => (false, rest.unwrap_or(text)),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest).parse::<Authority>().ok();
        let whole = |authority: &Authority| {
            authority.port_u16().is_some() && !authority.host().is_empty() && !authority.as_str().contains('@')
        };
        let authority = authority.filter(whole).ok_or("is no HOST:PORT or https://HOST:PORT")?;
        Ok(Self { is_tls, authority })
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.authority.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_listener_is_named_by_host_and_port_with_https_where_it_has_a_certificate() {
        for (text, is_tls, host, authority) in [
            ("127.0.0.1:8081", false, "127.0.0.1", "127.0.0.1:8081"),
            ("http://admin.example:1/", false, "admin.example", "admin.example:1"),
            ("https://[::1]:8081", true, "::1", "[::1]:8081"),
        ] {
            let address: AdminAddress = text.parse().expect(text);
            assert_eq!(
                (address.is_tls, address.host(), address.to_string().as_str()),
                (is_tls, host, authority),
                "{text}"
            );
        }
        for text in ["", ":8081", "https://", "admin.example", "https://admin.example/x:1", "a@b:1", "a:99999"] {
            assert!(text.parse::<AdminAddress>().is_err(), "{text}");
        }
    }
}
