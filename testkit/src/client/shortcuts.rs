//! One request on a connection of its own, in one call.

use std::net::SocketAddr;

use super::{RawClient, Response};

/// Sends `GET path` with `Host: <address>` and returns the answer. It may be cut or malformed in its
/// body: assert with [`Response::complete`].
///
/// # Panics
/// If there is no connection or no head of an answer: with the reason.
#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> impl Future<Output = Response> {
    request(address, "GET", path, &[], b"")
}

/// Sends a request with these fields and this body, and returns the answer, as [`get`] does.
/// `Host: <address>` is added if the fields have none, `Content-Length` if the body is not empty
/// and the fields have no framing of their own.
///
/// # Panics
/// As [`get`].
#[track_caller]
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    fields: &[(&str, &str)],
    body: &[u8],
) -> impl Future<Output = Response> {
    let place = std::panic::Location::caller();
    let bytes = request_bytes(&address.to_string(), method, path, fields, body);
    let method = method.to_owned();
    async move {
        let exchange = async {
            let mut client = RawClient::try_connect(address).await.map_err(|e| format!("cannot connect: {e}"))?;
            // A server may answer and close before it has read the whole request.
            let sent = client.try_send(&bytes).await;
            let answer = client.try_read_response(&method).await;
            answer.map_err(|e| format!("{e} (sending ended with {sent:?})"))
        };
        exchange.await.unwrap_or_else(|e| panic!("{method} to {address} ({place}): {e}"))
    }
}

/// The bytes that [`request`] sends.
#[must_use]
pub fn request_bytes(host: &str, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let has = |name: &str| fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    if !has("host") {
        head.push_str(&format!("Host: {host}\r\n"));
    }
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() && !has("content-length") && !has("transfer-encoding") {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    [head.as_bytes(), body].concat()
}
