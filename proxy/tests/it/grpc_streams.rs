//! Bidirectional streaming calls of gRPC: passed on with `any`, refused if several endpoints must agree.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::ResponseFuture,
    server::{self, SendResponse},
};
use http::{HeaderMap, Response};
use parking_lot::Mutex;
use testkit::{eventually, eventually::within};

use crate::{
    fixture::{NEVER, Place, Serving, ms},
    grpc::{call, message},
    http2::Client,
    http2_endpoints::over_h2,
};

/// The behaviour of an endpoint in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Says {
    /// Echoes each message, and ends with status 0.
    Echo,
    /// Sends a message first, then echoes.
    SpeaksFirst,
    /// Sends one message and status 0 after the first message, and keeps reading.
    AnswersEarly,
    /// Sends a message after the first one, and resets the stream at the second.
    BreaksOff,
    /// Sends nothing and reads nothing.
    Deaf,
}

/// The endpoint's record of a call.
#[derive(Clone, Debug, Default)]
struct Seen {
    body: Vec<u8>,
    /// Whether it has sent everything.
    answered: bool,
    /// How the request ended, once it has: with its last frame, or reset.
    end: Option<Result<(), Option<Reason>>>,
}

/// An endpoint with its calls.
struct Endpoint {
    serving: Serving,
    calls: Arc<Mutex<Vec<Seen>>>,
}

impl Place for Endpoint {
    fn place(&self) -> SocketAddr {
        self.serving.place()
    }
}

impl Endpoint {
    async fn start(n: usize, says: Says) -> Self {
        let calls = Arc::<Mutex<Vec<Seen>>>::default();
        let log = calls.clone();
        let serving = Serving::start(n, |listener| async move {
            while let Ok((stream, _)) = listener.accept().await {
                let log = log.clone();
                tokio::spawn(async move {
                    let Ok(mut connection) = server::handshake(stream).await else { return };
                    while let Some(Ok((request, respond))) = connection.accept().await {
                        let number = {
                            let mut calls = log.lock();
                            calls.push(Seen::default());
                            calls.len() - 1
                        };
                        tokio::spawn(talk(says, request.into_body(), respond, log.clone(), number));
                    }
                });
            }
        });
        Self { serving: serving.await, calls }
    }

    /// Waits until its only call is like this.
    async fn until(&self, what: &str, is: impl Fn(&Seen) -> bool) -> Seen {
        let only = || self.calls.lock().first().cloned();
        eventually!(what, only(), |seen| seen.as_ref().is_some_and(&is)).expect("it is there")
    }
}

async fn talk(
    says: Says,
    mut body: RecvStream,
    mut respond: SendResponse<Bytes>,
    log: Arc<Mutex<Vec<Seen>>>,
    n: usize,
) {
    let mut answer = None;
    if says == Says::SpeaksFirst {
        say(&mut answer, &mut respond, message("welcome").into());
    }
    let end = loop {
        if says == Says::Deaf {
            // Until the stream ends; what has come stays unread.
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await.ok();
            break Err(reason);
        }
        match body.data().await {
            None => break Ok(()),
            Some(Err(error)) => break Err(error.reason()),
            Some(Ok(data)) => {
                let _ = body.flow_control().release_capacity(data.len());
                log.lock()[n].body.extend_from_slice(&data);
                match says {
                    Says::Echo | Says::SpeaksFirst => say(&mut answer, &mut respond, data),
                    Says::BreaksOff => match &mut answer {
                        None => say(&mut answer, &mut respond, message("done").into()),
                        Some(answer) => return answer.send_reset(Reason::ENHANCE_YOUR_CALM),
                    },
                    Says::AnswersEarly if answer.is_none() => {
                        say(&mut answer, &mut respond, message("done").into());
                        finish(answer.as_mut().expect("it has begun"));
                        log.lock()[n].answered = true;
                    }
                    _ => {}
                }
            }
        }
    };
    log.lock()[n].end = Some(end);
    if let (Ok(()), Some(answer)) = (end, &mut answer)
        && says != Says::AnswersEarly
    {
        finish(answer);
    }
}

fn say(answer: &mut Option<SendStream<Bytes>>, respond: &mut SendResponse<Bytes>, data: Bytes) {
    let answer = answer.get_or_insert_with(|| {
        let head = Response::builder().header("content-type", "application/grpc").body(()).expect("a response");
        respond.send_response(head, false).expect("the stream is open")
    });
    // The caller may have gone.
    let _ = answer.send_data(data, false);
}

fn finish(answer: &mut SendStream<Bytes>) {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", 0.into());
    let _ = answer.send_trailers(trailers);
}

/// The caller's side of a call in progress.
struct Conversation {
    send: SendStream<Bytes>,
    response: Option<ResponseFuture>,
    answer: Option<RecvStream>,
    /// Keeps the connection open.
    _client: Client,
}

impl Conversation {
    async fn begin(address: SocketAddr, fields: &[(&str, &str)]) -> Self {
        let client = Client::at(address).await;
        let mut ready = client.send.clone().ready().await.expect("it takes a call");
        let (response, send) = ready.send_request(call(fields), false).expect("a stream");
        Self { send, response: Some(response), answer: None, _client: client }
    }

    fn say(&mut self, data: impl Into<Bytes>) {
        self.send.send_data(data.into(), false).expect("the stream is open");
    }

    fn end(&mut self) {
        self.send.send_data(Bytes::new(), true).expect("the stream is open");
    }

    async fn answer(&mut self) -> &mut RecvStream {
        if let Some(response) = self.response.take() {
            let response = within("the head of the answer", response).await.expect("an answer");
            assert_eq!(response.status(), 200);
            let trailers_only = response.headers().get("grpc-status").cloned();
            assert_eq!(trailers_only, None, "{:?}", response.headers());
            self.answer = Some(response.into_body());
        }
        self.answer.as_mut().expect("it has begun")
    }

    /// The next bytes of the answer, of the expected length.
    async fn hear(&mut self, length: usize) -> Vec<u8> {
        let answer = self.answer().await;
        let mut heard = Vec::new();
        while heard.len() < length {
            let data = within("a message", answer.data()).await.expect("the answer goes on").expect("it is not cut");
            answer.flow_control().release_capacity(data.len()).expect("within what has come");
            heard.extend_from_slice(&data);
        }
        heard
    }

    /// The status at the end of the answer.
    async fn status(&mut self) -> String {
        let answer = self.answer().await;
        let rest = within("the end of the answer", answer.data()).await;
        assert!(rest.as_ref().is_none_or(|rest| rest.as_ref().is_ok_and(Bytes::is_empty)), "{rest:?}");
        let trailers = within("trailers", answer.trailers()).await.expect("it is not cut").expect("there are some");
        trailers["grpc-status"].to_str().expect("a number").to_owned()
    }

    /// The status and the message of a trailers-only answer.
    async fn refusal(mut self) -> (String, String) {
        let response = self.response.take().expect("it was not asked for yet");
        let response = within("an answer", response).await.expect("an answer");
        let text = |name: &str| response.headers()[name].to_str().expect("text").to_owned();
        (text("grpc-status"), text("grpc-message"))
    }
}

#[tokio::test]
async fn with_any_each_side_may_wait_for_the_other() {
    let (a, b) = (Endpoint::start(0, Says::Echo).await, Endpoint::start(1, Says::Echo).await);
    let proxy = over_h2(&[&a, &b]).require("any").start();
    let mut call = Conversation::begin(proxy.address, &[]).await;
    let mut all = Vec::new();
    for n in 0..20 {
        let ping = message(&format!("message {n}"));
        call.say(ping.clone());
        assert_eq!(call.hear(ping.len()).await, ping);
        all.extend(ping);
    }
    call.end();
    assert_eq!(call.status().await, "0");
    for endpoint in [&a, &b] {
        let seen = endpoint.until("the end of the request", |seen| seen.end.is_some()).await;
        assert_eq!((seen.end, seen.body == all), (Some(Ok(())), true), "every endpoint has all of it");
    }
    proxy.settled().await;
    assert_eq!((proxy.legs(&a, "ok"), proxy.legs(&b, "ok"), proxy.completed("ok")), (1, 1, 1));
}

#[tokio::test]
async fn with_any_an_endpoint_may_speak_first() {
    let a = Endpoint::start(0, Says::SpeaksFirst).await;
    let proxy = over_h2(&[&a]).require("any").start();
    let mut call = Conversation::begin(proxy.address, &[]).await;
    assert_eq!(call.hear(message("welcome").len()).await, message("welcome"));
    call.end();
    assert_eq!(call.status().await, "0");
}

#[tokio::test]
async fn where_all_must_agree_a_call_in_which_each_side_waits_is_refused_and_says_why() {
    for require in ["all", "majority"] {
        let (a, b) = (Endpoint::start(0, Says::Echo).await, Endpoint::start(1, Says::Echo).await);
        let proxy = over_h2(&[&a, &b]).require(require).total(NEVER).start();
        let mut call = Conversation::begin(proxy.address, &[]).await;
        call.say(message("ping"));
        let (code, why) = call.refusal().await;
        assert_eq!(code, "12", "{why}");
        assert!(why.contains("does not end before its caller has the answer") && why.contains("require: any"), "{why}");
        for endpoint in [&a, &b] {
            let seen = endpoint.until("the end of the request", |seen| seen.end.is_some()).await;
            assert_eq!((seen.end, seen.body), (Some(Err(Some(Reason::CANCEL))), message("ping")));
        }
    }
}

#[tokio::test]
async fn an_answer_before_the_end_of_a_request_is_waited_for_where_the_end_comes() {
    // Like servers of unary calls, which answer after the message, before the end of the stream.
    for require in ["all", "any"] {
        let (a, b) = (Endpoint::start(0, Says::AnswersEarly).await, Endpoint::start(1, Says::AnswersEarly).await);
        let proxy = over_h2(&[&a, &b]).require(require).start();
        let mut call = Conversation::begin(proxy.address, &[]).await;
        call.say(message("ask"));
        for endpoint in [&a, &b] {
            endpoint.until("the answer", |seen| seen.answered).await;
        }
        call.end();
        assert_eq!((call.hear(message("done").len()).await, call.status().await), (message("done"), "0".to_owned()));
        proxy.settled().await;
        for endpoint in [&a, &b] {
            let seen = endpoint.until("the end of the request", |seen| seen.end.is_some()).await;
            assert_eq!((seen.end, proxy.legs(endpoint, "ok")), (Some(Ok(())), 1), "{require}");
        }
    }
}

#[tokio::test]
async fn a_call_whose_answers_are_whole_ends_though_its_request_does_not() {
    for require in ["all", "any"] {
        let (a, b) = (Endpoint::start(0, Says::AnswersEarly).await, Endpoint::start(1, Says::AnswersEarly).await);
        let proxy = over_h2(&[&a, &b]).require(require).total(NEVER).start();
        let mut call = Conversation::begin(proxy.address, &[]).await;
        call.say(message("ask"));
        assert_eq!((call.hear(message("done").len()).await, call.status().await), (message("done"), "0".to_owned()));
        proxy.settled().await;
        // With `any` the copy that was not chosen may be cancelled before its answer has come.
        let whole = proxy.legs(&a, "ok") + proxy.legs(&b, "ok");
        assert!(if require == "all" { whole == 2 } else { whole >= 1 }, "{require}: {whole} copies are whole");
        let completed = proxy.metric("fanfare_requests_completed_total", &[]);
        assert_eq!((completed, proxy.completed("failed")), (1.0, 0), "{require}");
        assert!(require == "any" || proxy.completed("ok") == 1);
    }
}

#[tokio::test]
async fn a_deadline_ends_an_answer_that_streams_with_status_4_and_cancels_every_copy() {
    let (a, b) = (Endpoint::start(0, Says::Echo).await, Endpoint::start(1, Says::Echo).await);
    let proxy = over_h2(&[&a, &b]).require("any").total(NEVER).start();
    let mut call = Conversation::begin(proxy.address, &[("grpc-timeout", "2S")]).await;
    call.say(message("ping"));
    assert_eq!(call.hear(message("ping").len()).await, message("ping"));
    assert_eq!(call.status().await, "4");
    for endpoint in [&a, &b] {
        let seen = endpoint.until("the end of the request", |seen| seen.end.is_some()).await;
        assert_eq!(seen.end, Some(Err(Some(Reason::CANCEL))));
    }
}

#[tokio::test]
async fn a_deadline_runs_also_while_only_the_caller_is_waited_for() {
    let a = Endpoint::start(0, Says::Deaf).await;
    let proxy = over_h2(&[&a]).total(NEVER).start();
    let mut call = Conversation::begin(proxy.address, &[("grpc-timeout", "300m")]).await;
    call.say(message("ping"));
    assert_eq!(call.refusal().await.0, "4");
    let seen = a.until("the end of the request", |seen| seen.end.is_some()).await;
    assert_eq!(seen.end, Some(Err(Some(Reason::CANCEL))));
}

#[tokio::test]
async fn a_caller_that_cancels_ends_every_copy() {
    let (a, b) = (Endpoint::start(0, Says::Echo).await, Endpoint::start(1, Says::Echo).await);
    let proxy = over_h2(&[&a, &b]).require("any").total(NEVER).start();
    let mut call = Conversation::begin(proxy.address, &[]).await;
    call.say(message("ping"));
    assert_eq!(call.hear(message("ping").len()).await, message("ping"));
    call.send.send_reset(Reason::CANCEL);
    for endpoint in [&a, &b] {
        let seen = endpoint.until("the end of the request", |seen| seen.end.is_some()).await;
        assert_eq!(seen.end, Some(Err(Some(Reason::CANCEL))));
    }
    proxy.settled().await;
}

#[tokio::test]
async fn an_answer_that_breaks_off_ends_with_a_status_that_says_so() {
    let a = Endpoint::start(0, Says::BreaksOff).await;
    let proxy = over_h2(&[&a]).require("any").start();
    let mut call = Conversation::begin(proxy.address, &[]).await;
    call.say(message("ask"));
    assert_eq!(call.hear(message("done").len()).await, message("done"));
    call.say(message("more"));
    assert_eq!(call.status().await, "8", "what the reason of the reset stands for");
    proxy.settled().await;
    let labels = [("source", "proxy"), ("grpc_status", "RESOURCE_EXHAUSTED")];
    assert_eq!(proxy.metric("fanfare_grpc_requests_total", &labels), 1.0);
}

#[tokio::test]
async fn an_endpoint_that_takes_nothing_does_not_hold_up_a_call_that_goes_on() {
    let (a, deaf) = (Endpoint::start(0, Says::Echo).await, Endpoint::start(1, Says::Deaf).await);
    let setup = over_h2(&[&a, &deaf]).require("any").total(NEVER);
    let proxy = setup.policy(|policy| (policy.window, policy.lag_timeout) = (64 << 10, ms(50))).start();
    let mut call = Conversation::begin(proxy.address, &[]).await;
    // More than a window here and one at the endpoint.
    let ping = message(&"x".repeat(10_000));
    for n in 0..40 {
        call.say(ping.clone());
        assert!(call.hear(ping.len()).await == ping, "message {n}");
    }
    call.end();
    assert_eq!(call.status().await, "0");
    proxy.settled().await;
    assert_eq!((proxy.legs(&a, "ok"), proxy.legs(&deaf, "lagged")), (1, 1));
    assert_eq!(a.until("the end of the request", |seen| seen.end.is_some()).await.body.len(), 40 * ping.len());
}
