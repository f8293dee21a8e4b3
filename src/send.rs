//! `fanfare send`: one request to every endpoint, from the command line. A broadcaster on a free loopback port sends it, so that the
//! same rules apply.

mod body;
mod report;
mod table;

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context as _;
use axum::body::Bytes;
use http_body_util::BodyExt as _;
use hyper::{StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use runtime::{signal::Request as Asked, systemd::PassedSockets, telemetry::Telemetry};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    UNUSABLE,
    app::{BoundProcess, Ended},
    cli::{Output, PASS, Send},
    config::Config,
    console,
    shared::Shared,
};
pub(crate) use body::Body;
use report::Report;
use table::{EndpointRow, LiveTable};

/// The media type of the report, for the field `Accept`.
const REPORT: &str = "application/vnd.broadcast+json";

/// The interval at which a table on a terminal is updated.
const REFRESH: Duration = Duration::from_millis(50);

/// How long a broadcaster that no longer answers may take to end.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// The exit status of a program that Ctrl-C has ended, as shells report it.
const INTERRUPTED: u8 = 130;

/// The answer of the broadcaster.
struct BroadcastAnswer {
    status: StatusCode,
    is_report: bool,
    body: Bytes,
}

/// Sends the request, and prints the result.
///
/// # Errors
/// It could not be sent.
pub(crate) async fn run(
    arguments: &Send,
    config: Config,
    pass: &str,
    body: Body,
    telemetry: &Telemetry,
    mut signals: mpsc::Receiver<Asked>,
) -> anyhow::Result<ExitCode> {
    let bound = BoundProcess::bind(config, telemetry, PassedSockets::default()).await?;
    let (to, readiness, shared) = (bound.addresses()[0], bound.readiness(), bound.shared());
    let (_ask, asked) = mpsc::channel(1);
    let mut running = tokio::spawn(bound.run(asked, None));
    let endpoints = tokio::time::timeout(arguments.wait, readiness.ready());
    tokio::select! {
        known = endpoints => known.map_err(|_| {
            let wait = runtime::duration::format(arguments.wait);
            anyhow::anyhow!("no list of endpoints within {wait}: {}", readiness.check().err().unwrap_or_default())
        })?,
        ended = &mut running => { ended??; anyhow::bail!("the broadcaster has ended") }
        _ = signals.recv() => return Ok(interrupted(None)),
    }
    let mut screen = (arguments.output == Output::Text).then(LiveTable::new).filter(LiveTable::is_terminal);
    let mut exchange = std::pin::pin!(send(to, arguments, pass, body));
    let answer = loop {
        tokio::select! {
            answer = &mut exchange => match answer {
                Ok(answer) => break answer,
                Err(error) => return Err(reason(&mut running, error).await),
            },
            ended = &mut running => { ended??; anyhow::bail!("the broadcaster has ended") }
            _ = signals.recv() => return Ok(interrupted(screen.as_mut())),
            () = tokio::time::sleep(REFRESH), if screen.is_some() => {
                if let Some(screen) = &mut screen {
                    screen.show(&so_far(&shared));
                }
            }
        }
    };
    print(arguments.output, screen, &answer)
}

/// Why there is no answer: the error of the broadcaster, if it has ended with one.
async fn reason(running: &mut JoinHandle<anyhow::Result<Ended>>, error: anyhow::Error) -> anyhow::Error {
    match tokio::time::timeout(END_TIMEOUT, running).await {
        Ok(Ok(Err(why))) => why,
        _ => error,
    }
}

/// Reports the interruption, and its consequence.
fn interrupted(screen: Option<&mut LiveTable>) -> ExitCode {
    if let Some(screen) = screen {
        screen.keep();
    }
    console::tell("fanfare: interrupted; endpoints may have got the request");
    INTERRUPTED.into()
}

/// The endpoints, with the outcomes so far.
fn so_far(shared: &Shared) -> Vec<EndpointRow> {
    let endpoints = shared.endpoints();
    let endpoints = endpoints["routes"][0]["endpoints"].as_array().cloned().unwrap_or_default();
    endpoints.iter().filter(|endpoint| endpoint["member"] == true).map(EndpointRow::so_far).collect()
}

async fn send(to: SocketAddr, arguments: &Send, pass: &str, body: Body) -> anyhow::Result<BroadcastAnswer> {
    let stream =
        tokio::net::TcpStream::connect(to).await.context("cannot connect to the broadcaster of this process")?;
    stream.set_nodelay(true)?;
    let builder = http1::Builder::new().title_case_headers(true).to_owned();
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let (length, (body, failure)) = (body.length(), body.into_http());
    let mut request = hyper::Request::new(body);
    *request.method_mut() = arguments.method.clone();
    *request.uri_mut() = arguments.target.clone();
    let fields = request.headers_mut();
    *fields = arguments.fields.clone();
    fields.append(header::ACCEPT, header::HeaderValue::from_static(REPORT));
    let agent = || header::HeaderValue::from_static(concat!("fanfare/", env!("CARGO_PKG_VERSION")));
    fields.entry(header::USER_AGENT).or_insert_with(agent);
    fields.insert(header::HOST, to.to_string().parse()?);
    fields.insert(header::HeaderName::from_bytes(PASS.as_bytes())?, pass.parse()?);
    if let Some(length) = length.filter(|length| *length > 0) {
        fields.insert(header::CONTENT_LENGTH, length.into());
    }
    let response = sender.send_request(request).await;
    if let Some(why) = failure.get() {
        anyhow::bail!("{why}; endpoints may have got a part of the request");
    }
    let response = response.context("the broadcaster of this process does not answer")?;
    let status = response.status();
    let is_report = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == REPORT);
    let body = response.into_body().collect().await.context("the report is cut")?.to_bytes();
    connection.abort();
    Ok(BroadcastAnswer { status, is_report, body })
}

/// Prints the answer. The exit status is whether the policy is met.
fn print(output: Output, screen: Option<LiveTable>, answer: &BroadcastAnswer) -> anyhow::Result<ExitCode> {
    if !answer.is_report {
        return Ok(refused(answer));
    }
    let report: Report = serde_json::from_slice(&answer.body).context("the report cannot be read")?;
    match output {
        Output::Json => console::print(&format!("{}\n", String::from_utf8_lossy(&answer.body).trim_end()))?,
        Output::Text => screen.unwrap_or_else(LiveTable::new).finish(&report)?,
    }
    Ok(if report.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints why the broadcaster refused the request.
fn refused(answer: &BroadcastAnswer) -> ExitCode {
    let problem: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let why = problem["detail"].as_str().map(str::to_owned);
    let why = why.unwrap_or_else(|| String::from_utf8_lossy(&answer.body).trim().to_owned());
    console::tell(format_args!("fanfare: not sent ({}): {why}", answer.status));
    if answer.status.is_client_error() { UNUSABLE.into() } else { ExitCode::FAILURE }
}
