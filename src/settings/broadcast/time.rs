//! Time-outs of `fanfare broadcast`.

use std::time::Duration;

use super::{LISTENER, ROUTE};
use crate::settings::{
    ROOT, Setting, flag, group,
    values::{duration, time},
};

group!(GROUP, "Time";
    TIMEOUT: Setting<Duration> = flag("timeout").short('t').at(ROUTE, "timeout").default("10s")
        .one("DURATION", duration),
        "From when a request goes to the endpoints to the end of its answer, time spent waiting for the client not \
         counted";
    CONNECT_TIMEOUT: Setting<Duration> = flag("connect-timeout").at(ROUTE, "connect_timeout").default("1s")
        .one("DURATION", duration),
        "For a connection to an endpoint to come about";
    FIRST_BYTE_TIMEOUT: Setting<Duration> = flag("first-byte-timeout").at(ROUTE, "first_byte_timeout").default("none")
        .one("DURATION", time),
        "From the end of a request to the first byte of an endpoint's answer";
    IDLE_TIMEOUT: Setting<Duration> = flag("idle-timeout").at(ROUTE, "idle_timeout").default("30s")
        .one("DURATION", time),
        "Between two pieces of an answer that is on its way to the client";
    LAG_TIMEOUT: Setting<Duration> = flag("lag-timeout").at(ROUTE, "lag_timeout").default("1s")
        .one("DURATION", duration),
        "How long one endpoint may hold up the request body alone where the others suffice";
    HEAD_TIMEOUT: Setting<Duration> = flag("head-timeout").at(LISTENER, "head_timeout").default("10s")
        .one("DURATION", time),
        "For a client to send a whole request head; then 408";
    BODY_TIMEOUT: Setting<Duration> = flag("body-timeout").at(LISTENER, "body_timeout").default("30s")
        .one("DURATION", time),
        "Between two pieces of a request body; then 408. Also for a client that takes nothing of its answer";
    KEEPALIVE_TIMEOUT: Setting<Duration> = flag("keepalive-timeout").at(LISTENER, "keepalive_timeout").default("60s")
        .one("DURATION", time),
        "Between two requests of a client connection; then it is closed";
    POOL_IDLE_TIMEOUT: Setting<Duration> = flag("pool-idle-timeout").at(ROOT, "pool_idle_timeout").default("60s")
        .one("DURATION", duration),
        "How long an idle connection to an endpoint is kept";
);
