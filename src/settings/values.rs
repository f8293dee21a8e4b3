//! Single values as they are written. What is refused is said in a way that tells what to write instead.

use std::{fmt::Display, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use sidecar::command::CommandLine;

/// Whatever a type reads of itself.
pub(super) fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// An address to listen on. `:8080` is every address and `localhost` the loopback one, as in the Go tools; other names
/// are refused, since which address they mean may change.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    let full = match host {
        "" => format!("0.0.0.0:{port}"),
        "localhost" => format!("127.0.0.1:{port}"),
        _ => text.to_owned(),
    };
    full.parse().map_err(|_| {
        format!("{text:?} is not an address to listen on: use for instance 0.0.0.0:8080, [::]:8080 or :8080")
    })
}

pub(super) fn network(text: &str) -> Result<ipnet::IpNet, String> {
    access::network::parse(text)
        .ok_or_else(|| format!("{text:?} is not a network: use for instance 10.0.0.0/8, 2001:db8::/32 or 192.0.2.1"))
}

/// Empty is every namespace, as in the flags people have.
pub(super) fn namespace(text: &str) -> Result<Option<String>, String> {
    match text {
        "" | "*" => Ok(None),
        _ if is_label(text) => Ok(Some(text.to_owned())),
        _ => Err(format!("{text:?} is not a namespace: use lower-case letters, digits and -")),
    }
}

/// The name of an object (RFC 1123 subdomain, as Kubernetes has it).
pub(super) fn name(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not the name of an object: use lower-case letters, digits, - and ."))
    }
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("is empty: name a file".to_owned()) } else { Ok(text.into()) }
}

pub(crate) fn text(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

pub(super) fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is not a whole number that fits here"))
}

pub(super) fn positive(text: &str) -> Result<usize, String> {
    number(text).and_then(|n| if n > 0 { Ok(n) } else { Err("must be at least 1".to_owned()) })
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    runtime::duration::parse(text).map_err(|error| error.to_string())
}

/// A time in which something has to happen: none at all would be too short for anything.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    if time.is_zero() { Err("must be longer than 0s".to_owned()) } else { Ok(time) }
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    runtime::size::parse(text).map_err(|error| error.to_string())
}

pub(super) fn bytes(text: &str) -> Result<usize, String> {
    usize::try_from(size(text)?).map_err(|_| format!("{text:?} is more than this machine can address"))
}

pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "on" => Ok(true),
        "false" | "no" | "off" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub(super) fn command(text: &str) -> Result<CommandLine, String> {
    CommandLine::parse(text).map_err(|error| error.to_string())
}

/// What names of namespaces and ports look like (RFC 1123).
pub(crate) fn is_label(text: &str) -> bool {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let end = |b: Option<u8>| b.is_some_and(|b| b != b'-');
    text.len() <= 63 && text.bytes().all(valid) && end(text.bytes().next()) && end(text.bytes().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_the_go_tools_write_them() {
        assert_eq!(address(":80"), Ok(([0, 0, 0, 0], 80).into()));
        assert_eq!(address("localhost:80"), Ok(([127, 0, 0, 1], 80).into()));
        assert!(address("[::]:80").is_ok());
        for text in ["", "80", "a:80", "1.2.3.4", "1.2.3.4:", ":x", "[::1:80"] {
            assert!(address(text).is_err(), "{text:?}");
        }
    }
}
