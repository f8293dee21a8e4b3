//! Finds the addresses in a file of any format, to count the endpoints that a new file would remove.

use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
};

/// The address that stands for an empty upstream in files for nginx (`render::nginx`).
pub(crate) const PLACEHOLDER_ADDRESS: &str = "127.0.0.1:9";

/// The distinct addresses in a text, with their ports where these follow directly.
///
/// After a restart the file is the only record of earlier endpoints. All formats write addresses as text, so this works for each of
/// them, for a user's template, and for files of other tools.
pub(super) fn addresses(text: &[u8]) -> HashSet<String> {
    let of_address = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b'.' | b':' | b'[' | b']');
    text.split(|byte| !of_address(byte)).filter_map(address).collect()
}

fn address(token: &[u8]) -> Option<String> {
    // The shortest are `::1` and `1.1.1.1`.
    if token.len() < 3 {
        return None;
    }
    let token = std::str::from_utf8(token).ok()?;
    // `key:10.0.0.1` and `10.0.0.1.` as well.
    let trimmed = token.trim_end_matches(['.', ':']);
    [token, trimmed, trimmed.trim_start_matches([':', '.'])].into_iter().find_map(parse)
}

fn parse(token: &str) -> Option<String> {
    // Not an endpoint.
    if token == PLACEHOLDER_ADDRESS {
        return None;
    }
    if let Ok(with_port) = token.parse::<SocketAddr>() {
        return Some(with_port.to_string());
    }
    let bare = token.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(token);
    Some(bare.parse::<IpAddr>().ok()?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_addresses_of_every_format() {
        let found = |text: &str| {
            let mut found: Vec<String> = addresses(text.as_bytes()).into_iter().collect();
            found.sort();
            found
        };
        assert_eq!(
            found("servers:\n- url: http://10.0.0.1:80\n- url: http://[2001:db8::1]:80\n"),
            ["10.0.0.1:80", "[2001:db8::1]:80"]
        );
        assert_eq!(
            found(r#"[{"targets":["10.0.0.1:80","10.0.0.2:80"],"labels":{"dead":"beef"}}]"#),
            ["10.0.0.1:80", "10.0.0.2:80"]
        );
        assert_eq!(
            found(r#"{"address":"10.0.0.1","port_value":80},{"address":"2001:db8::1"}"#),
            ["10.0.0.1", "2001:db8::1"]
        );
        assert_eq!(
            found("server a-10-0-0-1 10.0.0.1:8080 check\n10.0.0.2 cache-0.\nserver 10.0.0.3:80;"),
            ["10.0.0.1:8080", "10.0.0.2", "10.0.0.3:80"]
        );
        assert_eq!(found("ip:10.0.0.1 10.0.0.1. 10.0.0.1:"), ["10.0.0.1"]);
        assert_eq!(found("{}"), [""; 0]);
        assert_eq!(found("upstream idle-80 {\n    server 127.0.0.1:9 down;\n}\n"), [""; 0]);
        assert_eq!(found("a: bad, cafe: 1.2.3, 99.99.99.999"), [""; 0]);
    }
}
