//! The settings of `fanfare broadcast`: its listener, its one route, the bounds of the data plane.

use super::{Dashes, Group, Kind, Role, process, setting};

/// Where in the file the flags go: the one listener.
macro_rules! listener {
    ($key:literal) => {
        concat!("broadcast[].", $key)
    };
}

/// Where in the file the flags go: the one route of the one listener.
macro_rules! route {
    ($key:literal) => {
        concat!("broadcast[].routes[].", $key)
    };
}

/// The role.
pub(super) const ROLE: Role = Role {
    name: "broadcast",
    about: "Sends every request to every endpoint of a service and gives back one answer",
    dashes: Dashes::Two,
    groups: GROUPS,
};

const GROUPS: &[Group] = &[
    Group {
        title: "Endpoints",
        settings: &[
            setting(
                    "service",
                    route!("to.service"),
                    Kind::Many("[NS/]NAME"),
                    "",
                    "Kubernetes Service whose endpoints get every request; `*` stands for any characters in namespace and name",
                ).short('s'),
            setting(
                    "port-name",
                    route!("to.port"),
                    Kind::One("PORT"),
                    "",
                    "Port of the Service by name or number; may be left out where it has one port",
                ).short('p'),
            setting(
                "endpoints",
                route!("to.endpoints"),
                Kind::Many("HOST:PORT,..."),
                "",
                "Fixed endpoints: addresses ([::1]:80 for IPv6) or host names; a name is one endpoint, and fails while it does not resolve",
            ),
            setting(
                "endpoints-file",
                route!("to.file"),
                Kind::One("PATH"),
                "",
                "File of endpoints in Prometheus file_sd form (JSON or YAML); read again when it changes, a broken edit keeps the last good list",
            ),
            setting(
                "endpoints-dns",
                route!("to.dns"),
                Kind::One("NAME:PORT"),
                "",
                "DNS name: all its A and AAAA answers are endpoints; an SRV name like _http._tcp.example.org brings its ports; resolved again by TTL",
            ),
            setting(
                "dns-family",
                "dns_family",
                Kind::One("auto|ipv4|ipv6|all"),
                "auto",
                "Addresses of names: one family, or both; with auto, a name of --endpoints-dns that has both stands for its IPv4 addresses, with all for all",
            ),
            setting(
                "dns-max-ttl",
                "dns_max_ttl",
                Kind::One("DURATION"),
                "30s",
                "Longest time for which an answer of the DNS is believed, whatever its TTL; at least 1s",
            ),
            setting(
                "dns-negative-ttl",
                "dns_negative_ttl",
                Kind::One("DURATION"),
                "5s",
                "The same for the answer that there is no such name or no address",
            ),
        ],
    },
    Group {
        title: "Kubernetes",
        settings: &[
            process::KUBECONFIG,
            setting(
                    "namespace",
                    "kubernetes.namespace",
                    Kind::One("NS"),
                    "every namespace",
                    "Namespace of Services that are given without one",
                ).short('n'),
        ],
    },
    Group {
        title: "Answer",
        settings: &[
            setting(
                "require",
                route!("require"),
                Kind::One("RULE"),
                "all",
                "How many endpoints must answer with success: all, any, majority, a number, or a percentage like 67%",
            ),
            setting(
                "all-must-succeed",
                "",
                Kind::Switch,
                "true",
                "False is the same as --require any, true as --require all",
            ),
            setting(
                "success",
                route!("success"),
                Kind::Many("STATUSES"),
                "2xx,3xx",
                "Statuses that are a success, for every method and for single ones: 200,PURGE=200,404",
            ),
            setting("on-empty", route!("on_empty"), Kind::One("STATUS"), "503", "Status where there is no endpoint"),
            setting("on-timeout", route!("on_timeout"), Kind::One("STATUS"), "504", "Status where time ran out"),
            setting(
                "members",
                route!("members"),
                Kind::One("ready|known"),
                "ready",
                "Which endpoints count: those that are ready, or all that are known, where one that is not ready has failed",
            ),
            setting(
                "min-endpoints",
                route!("min_endpoints"),
                Kind::One("N"),
                "0",
                "Fewer endpoints than this: 503, nothing is sent",
            ),
            setting(
                "retries",
                route!("retries"),
                Kind::One("N"),
                "0",
                "Further attempts per endpoint after a transport failure, while the body is still in the window. They apply to requests that may be sent twice (--idempotent), and to others only as long as nothing was written to the endpoint",
            ),
            setting(
                "idempotent",
                route!("idempotent"),
                Kind::Many("METHODS"),
                "PURGE,BAN",
                "Methods that may be sent twice to an endpoint, besides GET, HEAD, PUT, DELETE and OPTIONS; `none` for no other. A request with an Idempotency-Key may be as well. Such a request is sent again where a kept connection turns out to be closed, and --retries apply to it",
            ),
            setting(
                "report",
                route!("report"),
                Kind::Switch,
                "true",
                "Answers carry X-Broadcast-Result and X-Broadcast-Endpoint, and Accept: application/vnd.broadcast+json gets the whole report",
            ),
        ],
    },
    Group {
        title: "Requests",
        settings: &[
            setting(
                    "interface",
                    listener!("listen"),
                    Kind::One("ADDRESS:PORT"),
                    "0.0.0.0:8080",
                    "Where requests come in; port 0 takes a free one. Required in the file",
                ).always().short('i'),
            setting(
                "keepalive",
                listener!("keepalive"),
                Kind::Switch,
                "true",
                "Client connections carry more than one request",
            ),
            setting(
                "allow",
                listener!("allow"),
                Kind::Many("METHODS PATH"),
                "everything",
                "What may be requested, like 'PURGE,BAN /cache/*'; the rest is 403, and 400 what an endpoint may read as a path outside",
            ),
            setting(
                "lenient-target",
                listener!("lenient_target"),
                Kind::Switch,
                "false",
                "Takes targets with |^{}\\\" in them as they are, as ban expressions have them, and passes them on as they came",
            ),
            setting(
                "via-name",
                listener!("via_name"),
                Kind::One("TEXT"),
                "namespace and service of the pod, else host and listener",
                "What this deployment is called in Via, by which it notices that a request has been here before: the same for all its replicas, and for no other tier",
            ),
            setting(
                "trust-forwarded",
                listener!("trust_forwarded"),
                Kind::Many("CIDR"),
                "nobody",
                "Clients whose Forwarded and X-Forwarded-* fields are kept; those of others are replaced",
            ),
            setting(
                "max-body",
                route!("max_body"),
                Kind::One("SIZE"),
                "unlimited",
                "Longest request body; longer is 413",
            ),
            setting(
                "start-after",
                route!("start_after"),
                Kind::One("SIZE"),
                "64KiB",
                "A request goes to the endpoints once its body is whole, or so much of it is there: what a slow client costs is paid here. 0 begins with the head",
            ),
            setting(
                "stream",
                route!("stream"),
                Kind::Switch,
                "false",
                "A request goes to the endpoints at the first piece of its body, whatever --start-after says; for clients that send as they go",
            ),
            setting(
                "min-body-rate",
                route!("min_body_rate"),
                Kind::One("SIZE"),
                "1KiB",
                "Bytes a second that a client must send of its body on average after the first 10s, else 408; and that it must take of an answer once it does not take all of it, else it is cut off. Only time in which the client is waited for counts. 0 is any",
            ),
            setting(
                "max-target",
                listener!("max_target"),
                Kind::One("SIZE"),
                "16KiB",
                "Longest request target; longer is 414",
            ),
            setting(
                "max-head",
                listener!("max_head"),
                Kind::One("SIZE"),
                "64KiB",
                "Longest request head; longer is 431",
            ),
            setting(
                "max-fields",
                listener!("max_fields"),
                Kind::One("N"),
                "128",
                "Most header fields of a request; more is 431",
            ),
        ],
    },
    Group {
        title: "Changes",
        settings: &[
            setting(
                "strip-prefix",
                route!("strip_prefix"),
                Kind::One("PATH"),
                "",
                "Whole segments that are taken off the front of a path that begins with them: with /api, /api/v1 goes on as /v1",
            ),
            setting(
                "rewrite",
                route!("rewrite"),
                Kind::One("PATH"),
                "",
                "Path that takes the place of the request's; * at its end is what the * of the route's path stands for, or all after the first slash. The query stays",
            ),
            setting(
                "host",
                route!("host"),
                Kind::One("HOST|{authority}"),
                "the client's",
                "Host that endpoints get; {authority} is each one's own name, or address, and port",
            ),
            setting(
                "set-header",
                route!("headers.request.set"),
                Kind::Many("NAME: VALUE"),
                "",
                "Header field that endpoints get in place of the client's; in the file also a mapping of names to values",
            ),
            setting(
                "add-header",
                route!("headers.request.add"),
                Kind::Many("NAME: VALUE"),
                "",
                "Header field that they get beside the client's",
            ),
            setting(
                "remove-header",
                route!("headers.request.remove"),
                Kind::Many("NAME"),
                "",
                "Header field of the client's that they do not get",
            ),
            setting(
                "set-response-header",
                route!("headers.response.set"),
                Kind::Many("NAME: VALUE"),
                "",
                "Header field that the client gets in place of the endpoint's",
            ),
            setting(
                "add-response-header",
                route!("headers.response.add"),
                Kind::Many("NAME: VALUE"),
                "",
                "Header field that it gets beside the endpoint's",
            ),
            setting(
                "remove-response-header",
                route!("headers.response.remove"),
                Kind::Many("NAME"),
                "",
                "Header field of the endpoint's that it does not get",
            ),
        ],
    },
    Group {
        title: "Time",
        settings: &[
            setting(
                    "timeout",
                    route!("timeout"),
                    Kind::One("DURATION"),
                    "10s",
                    "From when a request goes to the endpoints to the end of its answer, time spent waiting for the client not counted",
                ).short('t'),
            setting(
                "connect-timeout",
                route!("connect_timeout"),
                Kind::One("DURATION"),
                "1s",
                "For a connection to an endpoint to come about",
            ),
            setting(
                "first-byte-timeout",
                route!("first_byte_timeout"),
                Kind::One("DURATION"),
                "none",
                "From the end of a request to the first byte of an endpoint's answer",
            ),
            setting(
                "idle-timeout",
                route!("idle_timeout"),
                Kind::One("DURATION"),
                "30s",
                "Between two pieces of an answer that is on its way to the client",
            ),
            setting(
                "lag-timeout",
                route!("lag_timeout"),
                Kind::One("DURATION"),
                "1s",
                "How long one endpoint may hold up the request body alone where the others suffice",
            ),
            setting(
                "head-timeout",
                listener!("head_timeout"),
                Kind::One("DURATION"),
                "10s",
                "For a client to send a whole request head; then 408",
            ),
            setting(
                "body-timeout",
                listener!("body_timeout"),
                Kind::One("DURATION"),
                "30s",
                "Between two pieces of a request body; then 408. Also for a client that takes nothing of its answer",
            ),
            setting(
                "keepalive-timeout",
                listener!("keepalive_timeout"),
                Kind::One("DURATION"),
                "60s",
                "Between two requests of a client connection; then it is closed",
            ),
            setting(
                "pool-idle-timeout",
                "pool_idle_timeout",
                Kind::One("DURATION"),
                "60s",
                "How long an idle connection to an endpoint is kept",
            ),
        ],
    },
    Group {
        title: "Bounds",
        settings: &[
            setting(
                "window",
                route!("window"),
                Kind::One("SIZE"),
                "256KiB",
                "Body window: what a request may keep in memory of its body, and again of its answers; at least 64KiB",
            ),
            setting(
                "max-connections",
                "max_connections",
                Kind::One("N"),
                "10000",
                "Client connections at a time; for one more the one that has been longest without a request makes room, or it gets 503",
            ),
            setting("max-inflight", "max_inflight", Kind::One("N"), "10000", "Requests at a time, from when they go to the endpoints; one more gets 503"),
            setting(
                "max-inflight-per-endpoint",
                "max_inflight_per_endpoint",
                Kind::One("N"),
                "1024",
                "Copies of requests at a time to one endpoint; one more is rejected",
            ),
            setting(
                "max-buffered",
                "max_buffered",
                Kind::One("SIZE"),
                "512MiB",
                "Bytes of bodies that all requests together keep in memory; past it they go on more slowly",
            ),
            setting(
                "pool-size",
                "pool_size",
                Kind::One("N"),
                "256",
                "Idle connections kept per endpoint and worker thread",
            ),
            setting("threads", "threads", Kind::One("N"), "one per CPU", "Worker threads"),
        ],
    },
    Group {
        title: "Process",
        settings: &[
            process::ADMIN,
            setting(
                "ready",
                "ready",
                Kind::One("all|any"),
                "all",
                "Which routes need an endpoint for the process to be ready: all of them, or any one; /-/ready?route=NAME tells of each",
            ),
            setting(
                "ready-no-endpoint",
                "ready_no_endpoint",
                Kind::Switch,
                "false",
                "Ready even where a route has no endpoint",
            ),
            process::DRAIN_DELAY,
            process::DRAIN_IDLE,
            process::DRAIN_TIMEOUT,
            process::LOG_LEVEL,
            process::LOG_FORMAT,
            setting(
                "access-log",
                "access_log",
                Kind::One("off|text|json"),
                "text",
                "One line per request on standard output, with the outcome of every endpoint",
            ),
        ],
    },
    Group {
        title: "Routes",
        settings: &[
            setting(
                "",
                route!("name"),
                Kind::One("TEXT"),
                "what it sends to",
                "What metrics and logs call the route; no two have the same",
            ),
            setting(
                "",
                route!("match.methods"),
                Kind::Many("METHOD"),
                "any",
                "Methods that take the route, as written",
            ),
            setting(
                "",
                route!("match.hosts"),
                Kind::Many("HOST"),
                "any",
                "Hosts that take the route: a name, or *.example.org for all below it",
            ),
            setting(
                "",
                route!("match.paths"),
                Kind::Many("PATH"),
                "any",
                "Paths that take the route: exact, or a prefix with one * at the end. What an endpoint may read as a path outside of the prefix is 400",
            ),
            setting(
                "",
                route!("match.headers"),
                Kind::Many("NAME: VALUE"),
                "any",
                "Header fields that must all be there: a value, the front of one with * at the end, or * for any; also a mapping of names to values",
            ),
        ],
    },
];
