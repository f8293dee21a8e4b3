//! The harness's own endpoints over HTTP/2: every whole request is counted and answered, calls of gRPC with an empty message.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use h2::{
    RecvStream,
    server::{Builder, SendResponse},
};
use http::{HeaderMap, HeaderValue, Request, Response, header};
use tokio::net::TcpStream;

use super::server::Count;

/// Flow-control windows that no body of the load fills.
const WINDOW_BYTES: u32 = 16 << 20;
/// The limit of concurrent streams, which no load reaches.
const STREAMS: u32 = 1_000;
/// An empty message of gRPC.
const MESSAGE: &[u8] = &[0; 5];

/// Serves a connection until its peer ends it.
pub(super) async fn serve(stream: TcpStream, count: Arc<Count>) -> Result<(), h2::Error> {
    let mut builder = Builder::new();
    builder.max_concurrent_streams(STREAMS);
    builder.initial_window_size(WINDOW_BYTES).initial_connection_window_size(WINDOW_BYTES);
    let mut connection = builder.handshake(stream).await?;
    while let Some(accepted) = connection.accept().await {
        let (request, respond) = accepted?;
        if request.body().is_end_stream() {
            count.copies.fetch_add(1, Ordering::Relaxed);
            answer(respond, false)?;
        } else {
            let count = count.clone();
            // A reset stream is not counted, which the measurement shows as a lost copy.
            tokio::spawn(async move { whole(request, respond, &count).await.ok() });
        }
    }
    Ok(())
}

/// Reads a body, then answers.
async fn whole(request: Request<RecvStream>, respond: SendResponse<Bytes>, count: &Count) -> Result<(), h2::Error> {
    let grpc = request.headers().get(header::CONTENT_TYPE).is_some_and(|value| value.as_bytes() == b"application/grpc");
    let mut body = request.into_body();
    while let Some(data) = body.data().await {
        let length = data?.len();
        count.bytes.fetch_add(length as u64, Ordering::Relaxed);
        body.flow_control().release_capacity(length)?;
    }
    body.trailers().await?;
    count.copies.fetch_add(1, Ordering::Relaxed);
    answer(respond, grpc)
}

fn answer(mut respond: SendResponse<Bytes>, grpc: bool) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    if grpc {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let mut stream = respond.send_response(response, false)?;
        stream.send_data(Bytes::from_static(MESSAGE), false)?;
        let status = (header::HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        return stream.send_trailers(HeaderMap::from_iter([status]));
    }
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("3"));
    respond.send_response(response, false)?.send_data(Bytes::from_static(b"ok\n"), true)
}
