//! Compacts the history of etcd; tests use etcd directly for nothing else.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Compacts everything up to the current revision, through etcd's JSON gateway.
pub(super) async fn compact(port: u16) -> Result<(), String> {
    let range = post(port, "/v3/kv/range", &json!({"key": "AA==", "range_end": "AA==", "limit": 1})).await?;
    let revision = range["header"]["revision"].as_str().ok_or_else(|| format!("no revision in {range}"))?;
    let answer = post(port, "/v3/kv/compaction", &json!({"revision": revision, "physical": true})).await?;
    match answer.get("error") {
        Some(error) => Err(error.to_string()),
        None => Ok(()),
    }
}

/// One HTTP/1.0 exchange: the answer ends with the connection.
async fn post(port: u16, path: &str, body: &Value) -> Result<Value, String> {
    let body = body.to_string();
    let request = format!("POST {path} HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let exchange = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = exchange.await.map_err(|e| format!("{path}: {e}"))?;
    let (_head, json) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("{path}: no answer in {answer:?}"))?;
    serde_json::from_str(json).map_err(|e| format!("{path}: {e} in {answer:?}"))
}
