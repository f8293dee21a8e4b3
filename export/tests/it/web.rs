//! A server that accepts files by PUT, with strong entity tags and conditions (RFC 9110).

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use export::sink::sha256;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{net::TcpListener, task::JoinHandle};

/// A running server. Dropping it ends it.
pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) files: Mutex<BTreeMap<String, Bytes>>,
    /// Ignores conditions.
    pub(crate) ignores_conditions: AtomicBool,
    /// GET is 405.
    pub(crate) write_only: AtomicBool,
    /// The answer to GET instead of the file: status, fields and body.
    pub(crate) instead: Mutex<Option<Instead>>,
    /// The fields `Authorization` of all requests.
    pub(crate) authorizations: Mutex<Vec<String>>,
    /// The methods of all requests.
    pub(crate) methods: Mutex<Vec<Method>>,
}

/// An answer that is not a file.
#[derive(Clone)]
pub(crate) struct Instead {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(&'static str, &'static str)>,
    pub(crate) body: Bytes,
}

impl Web {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::<State>::default();
        let shared = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                let service = service_fn(move |request| answer(state.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, state, task }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(state: Arc<State>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    state.methods.lock().push(request.method().clone());
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|field| field.to_str().ok());
    state.authorizations.lock().push(authorization.unwrap_or_default().to_owned());
    let status = |status: StatusCode| {
        let mut answer = Response::new(Full::default());
        *answer.status_mut() = status;
        answer
    };
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Ok(status(StatusCode::BAD_REQUEST)) };
    let body = body.to_bytes();
    let path = head.uri.path().to_owned();
    if let Some(instead) =
        state.instead.lock().clone().filter(|_| head.method == Method::GET && !path.ends_with(".manifest"))
    {
        let mut answer = Response::builder().status(instead.status);
        for (name, value) in instead.fields {
            answer = answer.header(name, value);
        }
        return Ok(answer.body(Full::new(instead.body)).expect("a valid response"));
    }
    let mut files = state.files.lock();
    let tag = files.get(&path).map(|bytes| format!("\"{}\"", sha256(bytes)));
    let field = |name| head.headers.get(name).and_then(|value: &hyper::header::HeaderValue| value.to_str().ok());
    if head.method != Method::GET && !state.ignores_conditions.load(Ordering::Relaxed) {
        let mismatch = field(header::IF_MATCH).is_some_and(|wanted| tag.as_deref() != Some(wanted));
        let exists = field(header::IF_NONE_MATCH) == Some("*") && tag.is_some();
        if mismatch || exists {
            return Ok(status(StatusCode::PRECONDITION_FAILED));
        }
    }
    Ok(match head.method {
        Method::GET if state.write_only.load(Ordering::Relaxed) => status(StatusCode::METHOD_NOT_ALLOWED),
        Method::GET => match (files.get(&path), tag) {
            (Some(bytes), Some(tag)) => {
                if field(header::IF_NONE_MATCH) == Some(&tag) {
                    return Ok(status(StatusCode::NOT_MODIFIED));
                }
                let answer = Response::builder().header(header::ETAG, tag).body(Full::new(bytes.clone()));
                answer.expect("a valid response")
            }
            _ => status(StatusCode::NOT_FOUND),
        },
        Method::PUT => {
            let tag = format!("\"{}\"", sha256(&body));
            files.insert(path, body);
            Response::builder().status(204).header(header::ETAG, tag).body(Full::default()).expect("a valid response")
        }
        Method::DELETE => {
            status(if files.remove(&path).is_some() { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND })
        }
        _ => status(StatusCode::NOT_IMPLEMENTED),
    })
}
