//! The origin against the raw client: what it writes, records, and does to connections.

mod dead;
mod records;
mod replies;

use super::*;
use crate::client::{RawClient, request_bytes};

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

/// A client that has sent these bytes.
async fn sent(origin: &Origin, bytes: impl AsRef<[u8]>) -> RawClient {
    let mut client = RawClient::connect(origin.address()).await;
    client.send(bytes).await;
    client
}

fn post(body: &[u8]) -> Vec<u8> {
    request_bytes("x", "POST", "/p", &[], body)
}
