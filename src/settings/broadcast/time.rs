//! Time-outs of `fanfare broadcast`.

use std::time::Duration;

use super::{LISTENER, ROUTE};
use crate::settings::{
    ROOT, Setting, flag, group,
    values::{duration, time},
};

group!(GROUP, "Time-outs";
    TIMEOUT: Setting<Duration> = flag("timeout").short('t').at(ROUTE, "timeout").default("10s")
        .one("DURATION", duration),
        "From when a request goes to the endpoints to the end of its answer, without time spent waiting for the \
         client";
    CONNECT_TIMEOUT: Setting<Duration> = flag("connect-timeout").at(ROUTE, "connect_timeout").default("1s")
        .one("DURATION", duration),
        "For connecting to an endpoint";
    FIRST_BYTE_TIMEOUT: Setting<Duration> = flag("first-byte-timeout").at(ROUTE, "first_byte_timeout").default("none")
        .one("DURATION", time),
        "From the end of a request to the first byte of an endpoint's answer";
    IDLE_TIMEOUT: Setting<Duration> = flag("idle-timeout").at(ROUTE, "idle_timeout").default("30s")
        .one("DURATION", time),
        "Between two pieces of an answer that is being passed to the client";
    LAG_TIMEOUT: Setting<Duration> = flag("lag-timeout").at(ROUTE, "lag_timeout").default("1s")
        .one("DURATION", duration),
        "How long a single endpoint may delay the request body if the others are enough";
    HEAD_TIMEOUT: Setting<Duration> = flag("head-timeout").at(LISTENER, "head_timeout").default("10s")
        .one("DURATION", time),
        "For a client to send a whole request head; after that it gets 408";
    BODY_TIMEOUT: Setting<Duration> = flag("body-timeout").at(LISTENER, "body_timeout").default("30s")
        .one("DURATION", time),
        "Between two pieces of a request body; after that the client gets 408. Also applies to a client that reads \
         nothing of its answer";
    KEEPALIVE_TIMEOUT: Setting<Duration> = flag("keepalive-timeout").at(LISTENER, "keepalive_timeout").default("60s")
        .one("DURATION", time),
        "Between two requests of a client connection; after that it is closed";
    POOL_IDLE_TIMEOUT: Setting<Duration> = flag("pool-idle-timeout").at(ROOT, "pool_idle_timeout").default("60s")
        .one("DURATION", duration),
        "How long an idle connection to an endpoint is kept";
);
