//! What is asked of the endpoints of `fanfare broadcast`, and what is answered.

use std::time::Duration;

use proxy::config::{Compare, Ignored, Match, Members, OnFailure, Require, Waves};

use super::ROUTE;
use crate::settings::{
    List, Setting, flag, group, key,
    values::{boolean, duration, number, parsed, text},
};

/// The waves of a route.
const WAVES_OF_ROUTE: &str = "broadcast[].routes[].waves";

group!(GROUP, "Answer";
    REQUIRE: Setting<Require> = flag("require").at(ROUTE, "require").default("all").one("RULE", parsed),
        "How many endpoints must answer with success: all, any, majority, a number, or a percentage like 67%";
    ALL_MUST_SUCCEED: Setting<bool> = flag("all-must-succeed").default("true").switch(boolean),
        "False is the same as --require any, true as --require all";
    SUCCESS: List<String> = flag("success").at(ROUTE, "success").default("2xx,3xx").many("STATUSES", text),
        "Statuses that are a success, for every method and for single ones: 200,PURGE=200,404. \
         grpc:0,5 for gRPC calls, where 0 is the default";
    ON_EMPTY: Setting<u16> = flag("on-empty").at(ROUTE, "on_empty").default("503").one("STATUS", number),
        "Status of the answer if there is no endpoint";
    ON_TIMEOUT: Setting<u16> = flag("on-timeout").at(ROUTE, "on_timeout").default("504").one("STATUS", number),
        "Status of the answer if --timeout has passed";
    MEMBERS: Setting<Members> = flag("members").at(ROUTE, "members").default("ready").one("ready|known", members),
        "Which endpoints count: those that are ready, or all known ones, of which one that is not ready counts as \
         failed";
    MIN_ENDPOINTS: Setting<usize> = flag("min-endpoints").at(ROUTE, "min_endpoints").default("0").one("N", number),
        "With fewer endpoints than this the answer is 503 and nothing is sent";
    WAVES: Setting<Waves> = flag("waves").at(WAVES_OF_ROUTE, "size").default("all at once").one("WAVES", parsed),
        "Endpoints get a request in groups of this size (1, or 25% of them), in the order of their addresses, the \
         next group once every endpoint of the previous one is ok. '1, pause=2s, on-failure=continue' sets all three. \
         The body is kept for this, up to --redeliver-max-body; a longer one gets 413";
    WAVES_PAUSE: Setting<Duration> = key(WAVES_OF_ROUTE, "pause").default("0s").one("DURATION", duration),
        "Time between two groups. Each group has the full --timeout";
    WAVES_ON_FAILURE: Setting<OnFailure> = key(WAVES_OF_ROUTE, "on_failure").default("stop").one("stop|continue", parsed),
        "Whether the remaining groups are skipped after an endpoint is not ok, or still get the request";
    RETRIES: Setting<u32> = flag("retries").at(ROUTE, "retries").default("0").one("N", number),
        "Further attempts per endpoint after a transport failure, while the body is still in the window. They apply \
         to requests that may be sent twice (--idempotent), and to others only as long as nothing was written to the \
         endpoint";
    IDEMPOTENT: List<Option<Box<str>>> = flag("idempotent").at(ROUTE, "idempotent").default("PURGE,BAN")
        .commas("METHODS", method_or_none),
        "Methods that may be sent twice to an endpoint, besides GET, HEAD, PUT, DELETE and OPTIONS; `none` for no \
         other. So may a request with an Idempotency-Key. Such a request is sent again if a kept connection turns out \
         to be closed, and --retries apply to it";
    REPORT: Setting<bool> = flag("report").at(ROUTE, "report").default("true").switch(boolean),
        "Answers carry X-Broadcast-Result and X-Broadcast-Endpoint, and Accept: application/vnd.broadcast+json gets \
         the complete report";
    COMPARE: Setting<Compare> = flag("compare").at(ROUTE, "compare").default("off").one("off|status|body", parsed),
        "Whether the endpoints' answers are compared: their statuses, or also the first 1MiB of their bodies. Those \
         that differ from \
         most are told in the report, X-Broadcast-Divergent, the access log and a metric. With body, up to 1MiB of the answer is \
         held until all have answered";
    COMPARE_IGNORE: List<Ignored> = flag("compare-ignore").at(ROUTE, "compare_ignore")
        .many("POINTER|REGEX", parsed),
        "What in a body may differ with --compare body: a JSON pointer like /took/ms, or a regular expression like \
         'id=[0-9]+'";
);

fn members(text: &str) -> Result<Members, String> {
    match text {
        "ready" => Ok(Members::Ready),
        "known" => Ok(Members::Known),
        _ => Err(format!("{text:?} is not a set of members: use ready or known")),
    }
}

/// A method that may be sent twice; `none` for no other than those that always may.
fn method_or_none(text: &str) -> Result<Option<Box<str>>, String> {
    match text {
        "none" => Ok(None),
        method => Match::method(method).map(Some).map_err(|error| error.to_string()),
    }
}
