//! Requests that an endpoint missed, and that `fanfare broadcast` sends to it again.

use std::{path::PathBuf, time::Duration};

use proxy::config::{Gone, Identity, Match, MissedOn, Order};

use super::ROUTE;
use crate::settings::{
    List, Setting, flag, group, key,
    values::{boolean, bytes, duration, number, parsed, positive, time},
};

/// What a route sends again.
const REDELIVER: &str = "broadcast[].routes[].redeliver";

group!(GROUP, "Redelivery";
    FOR: Setting<Duration> = flag("redeliver").at(REDELIVER, "for").one("DURATION", time),
        "An endpoint that missed a request gets it again, until the request is this old. Without it nothing is sent \
         again";
    JOURNAL: Setting<PathBuf> = flag("redeliver-journal").at(REDELIVER, "journal").default("memory only")
        .one("DIRECTORY", directory),
        "Directory of the journal, in which pending deliveries survive the process: no acknowledged request is lost. \
         Created if it is missing";
    METHODS: List<Box<str>> = flag("redeliver-methods").at(REDELIVER, "methods").default("PURGE,BAN,PUT,DELETE")
        .commas("METHODS", method),
        "Methods of the requests that are sent again: those that are harmless when they arrive twice. POST must be \
         named";
    ON: List<String> = flag("redeliver-on").at(REDELIVER, "on").default("connect,reset,timeout,rejected,lagged,5xx")
        .commas("OUTCOMES", outcome),
        "What counts as missed: outcomes of a leg (connect, reset, timeout, rejected, lagged, protocol) and classes of \
         statuses (5xx, 3xx), never 4xx";
    ORDER: Setting<Order> = flag("redeliver-order").at(REDELIVER, "order").default("endpoint").one("endpoint|none", parsed),
        "Whether later requests wait behind pending deliveries of their endpoint, or are sent at once";
    MAX_BODY: Setting<usize> = flag("redeliver-max-body").at(REDELIVER, "max_body").default("1MiB")
        .one("SIZE", positive_bytes),
        "Longest body that is kept to be sent again, or for --waves, where a longer one gets 413";
    MAX_BYTES: Setting<usize> = flag("redeliver-max-bytes").at(REDELIVER, "max_bytes").default("256MiB")
        .one("SIZE", positive_bytes),
        "Total bytes of requests with pending deliveries; further requests are not redelivered";
    MAX_JOBS: Setting<usize> = flag("redeliver-max-jobs").at(REDELIVER, "max_jobs").default("100000").one("N", positive),
        "Number of requests with pending deliveries; further ones are not redelivered";
    BACKOFF: Setting<(Duration, Duration)> = flag("redeliver-backoff").at(REDELIVER, "backoff").default("250ms..30s")
        .one("FIRST..LONGEST", backoff),
        "Delays between attempts for one endpoint, from the first to the longest, each up to twice the previous one. \
         An endpoint that becomes ready again is tried at once";
    IDENTITY: Setting<Identity> = flag("redeliver-identity").at(REDELIVER, "identity").default("name")
        .one("name|address", parsed),
        "Who is the same endpoint when it returns: the pod of that name at whatever address (where there is no pod: \
         the \
         address), or whoever is at the address";
    GONE: Setting<Gone> = flag("redeliver-gone").at(REDELIVER, "gone").default("keep").one("keep|drop", parsed),
        "Whether the deliveries of an endpoint that has left are kept until they are too old, or dropped";
    GRACE: Setting<Duration> = flag("redeliver-grace").at(REDELIVER, "grace").default("5ms").one("DURATION", duration),
        "How long an answer under any or a quorum waits for copies in progress before they count as pending";
    CONCURRENCY: Setting<usize> = flag("redeliver-concurrency").at(REDELIVER, "concurrency").default("8")
        .one("N", positive),
        "Number of concurrent redeliveries, over all endpoints";
    ON_DEFERRED: Setting<u16> = flag("on-deferred").at(ROUTE, "on_deferred").default("the status of the failure")
        .one("STATUS", number),
        "Status of the answer if every failed copy will be redelivered, usually 202";
    ON_DEFERRED_TOO: Setting<u16> = key(REDELIVER, "on_deferred").default("the status of the failure")
        .one("STATUS", number),
        "The same as on_deferred of the route";
    ASYNC: Setting<bool> = flag("async").at(ROUTE, "async").default("false").switch(boolean),
        "A client may ask with Prefer: respond-async for an answer before the endpoints have the request: 202, once \
         it is          kept. For the methods of --redeliver-methods and bodies up to --redeliver-max-body; needs \
         --redeliver";
);

fn directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("is empty: name a directory".to_owned());
    }
    // Two ways to write it are one journal.
    std::path::absolute(text).map_err(|error| format!("{text:?} is not the path of a directory: {error}"))
}

fn method(text: &str) -> Result<Box<str>, String> {
    Match::method(text).map_err(|error| error.to_string())
}

/// One end of a leg that counts as missed.
fn outcome(text: &str) -> Result<String, String> {
    text.parse::<MissedOn>().map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn positive_bytes(text: &str) -> Result<usize, String> {
    bytes(text).and_then(|bytes| if bytes > 0 { Ok(bytes) } else { Err("must be at least 1".to_owned()) })
}

/// The first pause and the longest: `250ms..30s`.
fn backoff(text: &str) -> Result<(Duration, Duration), String> {
    let (first, longest) = text.split_once("..").ok_or_else(|| {
        format!("{text:?} does not say how long pauses are: write the first and the longest, like 250ms..30s")
    })?;
    let (first, longest) = (time(first.trim())?, time(longest.trim())?);
    if first > longest {
        return Err(format!("{text:?} ends before it begins: write the first pause and the longest, like 250ms..30s"));
    }
    Ok((first, longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_a_first_one_and_a_longest_one() {
        let told = |text: &str| backoff(text).expect_err(text);
        assert_eq!(backoff("1s..1m"), Ok((Duration::from_secs(1), Duration::from_secs(60))));
        assert_eq!(backoff("1s .. 1s"), Ok((Duration::from_secs(1), Duration::from_secs(1))));
        assert!(told("1s").contains("like 250ms..30s"));
        assert!(told("30s..1s").contains("ends before it begins"));
        assert!(told("0s..1s").contains("longer than 0s"));
        assert!(told("1..2s").contains("unit is missing"));
    }
}
