//! One request: its body is read, every endpoint gets a copy, and the first one's answer is passed on if all have succeeded.

use std::{net::SocketAddr, time::Instant};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::future::join_all;
use http::{HeaderMap, Response, StatusCode, header};
use pingora_core::{
    Result,
    apps::http_app::ServeHttp,
    connectors::{ConnectorOptions, http::Connector},
    protocols::http::{ServerSession, client::HttpSession},
    upstreams::peer::HttpPeer,
};
use pingora_http::RequestHeader;

use crate::access_log::{AccessLog, Entry, Leg};

/// Idle connections that are kept to each endpoint.
const IDLE_CONNECTIONS: usize = 512;

/// The broadcaster.
pub struct Broadcast {
    connector: Connector,
    endpoints: Vec<(String, HttpPeer)>,
    log: Option<AccessLog>,
}

/// The answer of an endpoint.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Broadcast {
    /// To these endpoints.
    pub fn new(endpoints: &[SocketAddr], http2: bool, log: Option<AccessLog>) -> Self {
        // Its default of 128 for all endpoints together would have connections opened for each request.
        let options = ConnectorOptions::new(IDLE_CONNECTIONS * endpoints.len());
        let peer = |endpoint: &SocketAddr| {
            let mut peer = HttpPeer::new(*endpoint, false, String::new());
            if http2 {
                peer.options.set_http_version(2, 2);
            }
            (endpoint.to_string(), peer)
        };
        Self { connector: Connector::new(Some(options)), endpoints: endpoints.iter().map(peer).collect(), log }
    }

    /// Sends a copy to one endpoint, and reads its answer.
    async fn send(&self, peer: &HttpPeer, request: &RequestHeader, body: Bytes) -> Result<Answer> {
        let (mut session, _) = self.connector.get_http_session(peer).await?;
        session.write_request_header(Box::new(request.clone())).await?;
        if !body.is_empty() {
            session.write_request_body(body, true).await?;
        }
        session.finish_request_body().await?;
        session.read_response_header().await?;
        if let HttpSession::H1(session) = &mut session {
            session.respect_keepalive();
        }
        let (status, headers) = match session.response_header() {
            Some(head) => (head.status, head.headers.clone()),
            None => (StatusCode::BAD_GATEWAY, HeaderMap::new()),
        };
        let mut body = Vec::new();
        while let Some(piece) = session.read_response_body().await? {
            body.extend_from_slice(&piece);
        }
        self.connector.release_http_session(session, peer, None).await;
        Ok(Answer { status, headers, body })
    }
}

#[async_trait]
impl ServeHttp for Broadcast {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let started = Instant::now();
        let mut body = BytesMut::new();
        loop {
            match session.read_request_body().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => break,
                Err(_) => return made_up(StatusCode::BAD_REQUEST),
            }
        }
        let mut request = session.req_header().clone();
        for name in [header::CONNECTION, header::TE, header::TRANSFER_ENCODING, header::UPGRADE] {
            request.remove_header(&name);
        }
        if !body.is_empty() && request.insert_header(header::CONTENT_LENGTH, body.len().to_string()).is_err() {
            return made_up(StatusCode::BAD_REQUEST);
        }
        let body = body.freeze();
        let legs = join_all(self.endpoints.iter().map(|(_, peer)| async {
            let answer = self.send(peer, &request, body.clone()).await;
            (answer, started.elapsed())
        }))
        .await;
        let is_ok = |answer: &Result<Answer>| answer.as_ref().is_ok_and(|answer| answer.status.is_success());
        let all_ok = legs.iter().all(|(answer, _)| is_ok(answer));
        let status = |answer: &Result<Answer>| answer.as_ref().ok().map(|answer| answer.status.as_u16());
        if let Some(log) = &self.log {
            log.write(&Entry {
                client: session.client_addr().map(ToString::to_string).unwrap_or_default(),
                method: request.method.as_str(),
                target: request.uri.path(),
                status: if all_ok { 200 } else { 502 },
                ms: started.elapsed().as_secs_f64() * 1e3,
                legs: (self.endpoints.iter().zip(&legs))
                    .map(|((endpoint, _), (answer, took))| Leg {
                        endpoint,
                        status: status(answer),
                        ms: took.as_secs_f64() * 1e3,
                    })
                    .collect(),
            });
        }
        let first = legs.into_iter().next().and_then(|(answer, _)| answer.ok()).filter(|_| all_ok);
        let Some(first) = first else { return made_up(StatusCode::BAD_GATEWAY) };
        let mut response = Response::new(first.body);
        *response.status_mut() = first.status;
        *response.headers_mut() = first.headers;
        for name in [header::CONNECTION, header::TRANSFER_ENCODING] {
            response.headers_mut().remove(name);
        }
        let length = response.body().len().into();
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
        response
    }
}

fn made_up(status: StatusCode) -> Response<Vec<u8>> {
    let mut response = Response::new(Vec::new());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_LENGTH, 0.into());
    response
}
