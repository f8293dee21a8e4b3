//! The command line of `fanfare send`: the flags of `broadcast` that are about one request, and the request itself.

use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};
use hyper::{HeaderMap, Method, Uri, header};

use super::{
    Output, broadcast,
    flags::{self, Flags},
};
use crate::settings::{
    broadcast::{
        answer::REPORT,
        bounds::THREADS,
        callers::CONTROL_FROM,
        changes::{HOST, REMOVE_HEADER},
        process::{ACCESS_LOG, READY_NO_ENDPOINT},
        requests::{INTERFACE, LENIENT_TARGET, MIN_BODY_RATE},
        routes::MATCH_HEADERS,
        time::BODY_TIMEOUT,
    },
    environment::Environment,
    process::LOG_LEVEL,
    send::SEND,
};

/// One request to every endpoint.
#[derive(Debug)]
pub(crate) struct Send {
    /// The settings of a broadcaster on a loopback port: endpoints and policy.
    pub(crate) flags: Flags,
    pub(crate) method: Method,
    pub(crate) target: Uri,
    pub(crate) fields: HeaderMap,
    /// The source of the body, as given.
    pub(crate) data: Option<String>,
    /// The format of the output.
    pub(crate) output: Output,
    /// The time limit for the list of endpoints.
    pub(crate) wait: Duration,
}

/// The field that authenticates the request to the broadcaster in this process, because other processes can reach its port as well.
pub(crate) const PASS: &str = "X-Fanfare-Send";

/// Fields for framing and connections, which are set by this program.
const OF_THE_CONNECTION: [header::HeaderName; 8] = [
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::HOST,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The subcommand.
pub(super) fn command() -> Command {
    let request = [
        Arg::new("method").value_name("METHOD").required(true).help("GET, PURGE or whatever the endpoints understand"),
        Arg::new("target").value_name("TARGET").required(true).help("Path and query: /logo.png"),
        Arg::new("header")
            .short('H')
            .long("header")
            .value_name("NAME: VALUE")
            .action(ArgAction::Append)
            .help("Header field of the request, also X-Broadcast-To and the like, which choose endpoints for this request"),
        Arg::new("data")
            .short('d')
            .long("data")
            .value_name("DATA|@FILE|@-")
            .allow_hyphen_values(true)
            .value_hint(ValueHint::FilePath)
            .help("Body of the request: this text, a file, or with @- standard input"),
        Arg::new("output")
            .short('o')
            .long("output")
            .value_name("table|json")
            .default_value("table")
            .value_parser(["table", "json"])
            .hide_possible_values(true)
            .help("A table of the endpoints, which fills while they answer where standard output is a terminal; or the report"),
        Arg::new("wait")
            .long("wait")
            .value_name("DURATION")
            .default_value("10s")
            .value_parser(|text: &str| runtime::duration::parse(text))
            .help("Time limit for the list of endpoints to arrive, from Kubernetes, the DNS or a server"),
    ];
    // The flags of the request come first.
    let mut command = Command::new(SEND.name).about(SEND.about).next_help_heading("Request").args(request);
    for arg in flags::command(&SEND).get_arguments() {
        command = command.arg(arg.clone());
    }
    command.after_help(
        "The exit status is 0 if as many endpoints are ok as --require says, 1 if not, and 64 for a wrong command.\n\
         fanfare send PURGE /logo.png --service shop/cache",
    )
}

/// Reads the arguments.
///
/// # Errors
/// The given request cannot be sent.
pub(super) fn read(matches: &ArgMatches, environment: &Environment) -> Result<Send, clap::Error> {
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let wrong =
        |message: String| command().bin_name("fanfare send").error(clap::error::ErrorKind::ValueValidation, message);
    let method = Method::from_bytes(text("method").as_bytes());
    let method =
        method.map_err(|_| wrong(format!("{:?} is not a method: use one like GET or PURGE", text("method"))))?;
    let target = target(&text("target")).map_err(wrong)?;
    let mut fields = HeaderMap::new();
    for line in matches.get_many::<String>("header").into_iter().flatten() {
        let (name, value) = field(line).map_err(wrong)?;
        fields.append(name, value);
    }
    let mut flags = Flags::new(&SEND, matches, environment);
    broadcast::amend(&mut flags, matches, environment);
    Ok(Send {
        flags,
        method,
        target,
        fields,
        data: matches.get_one::<String>("data").cloned(),
        output: if text("output") == "json" { Output::Json } else { Output::Text },
        wait: matches.get_one("wait").copied().unwrap_or_default(),
    })
}

fn target(text: &str) -> Result<Uri, String> {
    let origin = text.starts_with('/') || text == "*";
    // What follows a # would be left out.
    let read: Option<Uri> = (origin && !text.contains('#')).then(|| text.parse().ok()).flatten();
    read.ok_or_else(|| {
        format!("{text:?} is not a target: write a path like /a?b=c, with %20 for a space and %23 for #; --host names the host")
    })
}

fn field(line: &str) -> Result<(header::HeaderName, header::HeaderValue), String> {
    // The value may be a secret.
    let (name, value) = line.split_once(':').ok_or("a -H is not a header field: write 'name: value'")?;
    let shown = name.trim();
    let read: header::HeaderName =
        shown.parse().map_err(|_| format!("-H {shown:?} is not the name of a header field"))?;
    if read == header::HOST {
        return Err("-H cannot name the host: use --host".to_owned());
    }
    if OF_THE_CONNECTION.contains(&read) || read.as_str().eq_ignore_ascii_case(PASS) {
        return Err(format!("-H {shown} says how the request is sent, which is decided for each endpoint"));
    }
    let value =
        value.trim().parse().map_err(|_| format!("the value of -H {shown} has characters that cannot be sent"))?;
    Ok((read, value))
}

// === impl Send ===

impl Send {
    /// The configuration of a broadcaster on a free loopback port that accepts only requests with this pass.
    pub(crate) fn broadcaster(&self, pass: &str) -> Flags {
        let mut flags = self.flags.clone();
        flags.set(&INTERFACE, "127.0.0.1:0".into());
        flags.set(&MATCH_HEADERS, vec![serde_yaml::Value::from(format!("{PASS}: {pass}"))].into());
        flags.set(&REMOVE_HEADER, PASS.into());
        flags.set(&CONTROL_FROM, "127.0.0.1".into());
        flags.set(&LENIENT_TARGET, true.into());
        // A program that writes the body may take its time.
        flags.set(&MIN_BODY_RATE, "0".into());
        flags.set(&BODY_TIMEOUT, "8760h".into());
        flags.set(&REPORT, true.into());
        flags.set(&ACCESS_LOG, "off".into());
        flags.set(&READY_NO_ENDPOINT, true.into());
        flags.set(&THREADS, 1.into());
        flags.set_default(&HOST, "{authority}".into());
        flags.set_default(&LOG_LEVEL, "error".into());
        flags
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Task;

    fn parse(arguments: &[&str]) -> Result<Send, String> {
        let all = ["fanfare", "send"].iter().chain(arguments).copied();
        match crate::cli::parse_with(all, &Environment::default()) {
            Ok(Task::Send(send)) => Ok(*send),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_request_is_read_with_the_flags_of_a_broadcaster() {
        let send = parse(&[
            "PURGE",
            "/a?b=%20",
            "--endpoints=192.0.2.1:80,192.0.2.2:80",
            "--require=any",
            "-H",
            "X-A: b: c",
            "-Hx-a:d",
            "-d",
            "-text",
            "--wait=3s",
        ])
        .expect("it can be sent");
        assert_eq!((send.method.as_str(), send.target.to_string().as_str()), ("PURGE", "/a?b=%20"));
        assert_eq!(send.fields.get_all("x-a").iter().collect::<Vec<_>>(), ["b: c", "d"]);
        assert_eq!((send.data.as_deref(), send.wait.as_secs()), (Some("-text"), 3));
        let config = send.broadcaster("pass").config().unwrap_or_else(|problems| panic!("{problems}"));
        let listener = &config.proxy.listeners[0];
        assert!(listener.address.ip().is_loopback() && config.admin.is_none(), "it serves nobody else");
        assert_eq!(listener.routes[0].policy.require.to_string(), "any");
    }

    #[test]
    fn invalid_requests_are_reported_without_values_of_fields() {
        for (arguments, told) in [
            (&["P URGE", "/"][..], "is not a method"),
            (&["GET", "http://a.example/"], "is not a target"),
            (&["GET", "a"], "is not a target"),
            (&["GET", "/a#b"], "%23 for #"),
            (&["GET", "/", "-H", "hunter2"], "write 'name: value'"),
            (&["GET", "/", "-H", "a b: hunter2"], "is not the name"),
            (&["GET", "/", "-H", "Host: hunter2"], "use --host"),
            (&["GET", "/", "-H", "Content-Length: 1"], "how the request is sent"),
            (&["GET", "/", "-H", "X: hunter2\n"], "X"),
            (&["GET", "/", "--wait", "soon"], "soon"),
            (&["GET"], "TARGET"),
        ] {
            let problem = parse(arguments).map(|send| (send.fields, send.target));
            let problem = match problem {
                // Spaces around a value are not part of it.
                Ok((fields, _)) if told == "X" => format!("X {}", fields.len()),
                other => other.expect_err(told),
            };
            assert!(problem.contains(told) && !problem.contains("hunter2"), "{arguments:?}: {problem}");
        }
        let config = |arguments: &[&str]| parse(arguments).expect("it can be read").broadcaster("pass").config();
        let problems = config(&["GET", "/"]).expect_err("there are no endpoints").to_string();
        assert!(problems.contains("--endpoints") && problems.contains("none of them"), "{problems}");
    }
}
