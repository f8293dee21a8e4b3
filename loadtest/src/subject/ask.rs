//! One request to a subject, to check that it answers as the load needs it.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http::Request;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::{
    load::{
        Body, Target,
        connect::{Connector, Stream},
    },
    protocols::NAME,
    wire,
};

/// The time limit of one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Asks in clear text, again and again, until there is an answer.
pub(super) fn first(address: SocketAddr, limit: Duration, interval: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + limit;
    let once = || -> std::io::Result<u16> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.write_all(&wire::request(Body::Length(0)))?;
        let mut head = [0; 64];
        let read = stream.read(&mut head)?;
        Ok(wire::status(&head[..read]))
    };
    loop {
        let status = once();
        if matches!(status, Ok(1..=399)) {
            return Ok(());
        }
        ensure!(Instant::now() < until, "does not answer at {address} after {limit:?}: {status:?}");
        std::thread::sleep(interval);
    }
}

/// The status of one request. A call of gRPC must end with status 0 of gRPC besides.
pub(super) fn ask(target: &Target, grpc: bool) -> anyhow::Result<u16> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let connector = Connector::new(target)?;
        let answer = async {
            let stream = connector.connect().await.map_err(anyhow::Error::msg)?;
            if target.http2 { http2(stream, target.ca.is_some(), grpc).await } else { http1(stream).await }
        };
        timeout(ANSWER_TIMEOUT, answer).await.context("no answer")?
    })
}

async fn http1(mut stream: Stream) -> anyhow::Result<u16> {
    stream.write_all(&wire::request(Body::Length(0))).await?;
    stream.flush().await?;
    let mut head = [0; 64];
    let read = stream.read(&mut head).await?;
    Ok(wire::status(&head[..read]))
}

async fn http2(stream: Stream, tls: bool, grpc: bool) -> anyhow::Result<u16> {
    let (client, connection) = h2::client::handshake(stream).await?;
    // The task ends with the runtime; its errors appear in the answer.
    tokio::spawn(async move { connection.await.ok() });
    let scheme = if tls { "https" } else { "http" };
    let (method, path) = if grpc { ("POST", "load.Test/Unary") } else { ("GET", "load/test") };
    let mut request = Request::builder().method(method).uri(format!("{scheme}://{NAME}/{path}"));
    if grpc {
        request = request.header("content-type", "application/grpc").header("te", "trailers");
    }
    let mut client = client.ready().await?;
    let (response, mut body) = client.send_request(request.body(())?, !grpc)?;
    if grpc {
        body.send_data(Bytes::from_static(&[0; 5]), true)?;
    }
    let (head, mut body) = response.await?.into_parts();
    while let Some(data) = body.data().await {
        body.flow_control().release_capacity(data?.len())?;
    }
    if grpc {
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        let status = trailers.get("grpc-status").context("no grpc-status")?;
        ensure!(status == "0", "grpc-status {status:?}: {:?}", trailers.get("grpc-message"));
    }
    Ok(head.status.as_u16())
}
