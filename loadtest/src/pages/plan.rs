//! Which tables there are, and what is in them.

/// A table.
#[derive(Debug)]
pub(super) struct Table {
    /// Its name in markers.
    pub(super) name: &'static str,
    /// What its rows are.
    pub(super) corner: &'static str,
    /// Its columns.
    pub(super) columns: &'static [Axis],
    /// Its rows.
    pub(super) rows: &'static [Axis],
    /// What a cell shows.
    pub(super) show: Show,
}

/// A row or a column: its title, and what it says of its cells.
#[derive(Debug)]
pub(super) struct Axis {
    pub(super) title: &'static str,
    /// The scenario.
    pub(super) scenario: Option<&'static str>,
    /// The row of the scenario.
    pub(super) label: Option<&'static str>,
    /// The number.
    pub(super) metric: Option<&'static str>,
}

/// What a cell shows of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// The number.
    Value,
    /// Its ratio to the bare loop.
    Ratio,
    /// Its ratio to the row that it is compared with.
    Against,
    /// The number, and its ratio to the bare loop.
    Both,
}

const CPU: Option<&str> = Some("cpu_us_per_request");

/// Every table.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "summary",
        corner: "endpoints",
        columns: EVERYBODY,
        rows: &[
            Axis { metric: CPU, ..scenario("1", "tiny-n1") },
            Axis { metric: CPU, ..scenario("3", "tiny-n3") },
            Axis { metric: CPU, ..scenario("10", "tiny-n10") },
            Axis { metric: CPU, ..scenario("50", "tiny-n50") },
            Axis { metric: Some("bytes_per_second"), ..scenario("10, bodies of 10 MiB", "body-10m") },
        ],
        show: Show::Both,
    },
    Table {
        name: "access-log",
        corner: "CPU per request",
        columns: &[
            Axis { metric: CPU, ..scenario("N = 1", "log-n1") },
            Axis { metric: CPU, ..scenario("N = 3", "log-n3") },
            Axis { metric: CPU, ..scenario("N = 10", "log-n10") },
        ],
        rows: &[
            label("Fanfare, no log", "fanfare, no log"),
            label("Fanfare, text", "fanfare, text"),
            label("Fanfare, JSON", "fanfare, JSON"),
            label("nginx, no log", "nginx, no log"),
            label("nginx, text", "nginx, text"),
            label("nginx, JSON", "nginx, JSON"),
            label("Envoy, no log", "Envoy, no log"),
            label("Envoy, text", "Envoy, text"),
            label("Envoy, JSON", "Envoy, JSON"),
            label("Traefik, no log", "Traefik, no log"),
            label("Traefik, text", "Traefik, text"),
            label("Traefik, JSON", "Traefik, JSON"),
            label("pingora, no log", "pingora, no log"),
            label("pingora, text", "pingora, text"),
            label("pingora, JSON", "pingora, JSON"),
        ],
        show: Show::Ratio,
    },
    Table {
        name: "http2",
        corner: "CPU per request",
        columns: &[
            label("bare loop, HTTP/1.1", "bare loop"),
            label("Fanfare", "fanfare"),
            label("Fanfare, HTTP/1.1 to endpoints", "fanfare, HTTP/1.1 to endpoints"),
            label("nginx, HTTP/1.1 to endpoints", "nginx, HTTP/1.1 to endpoints"),
            label("Envoy", "Envoy"),
            label("Traefik", "Traefik"),
            label("pingora", "pingora"),
        ],
        rows: &[
            Axis { metric: CPU, ..scenario("N = 1, 1 stream", "h2-n1-s1") },
            Axis { metric: CPU, ..scenario("N = 1, 32 streams", "h2-n1-s32") },
            Axis { metric: CPU, ..scenario("N = 10, 1 stream", "h2-n10-s1") },
            Axis { metric: CPU, ..scenario("N = 10, 32 streams", "h2-n10-s32") },
        ],
        show: Show::Both,
    },
    Table {
        name: "latency",
        corner: "at half load",
        columns: &[
            number("N = 3: p50", "half-n3", "p50_us"),
            number("p99", "half-n3", "p99_us"),
            number("p99.9", "half-n3", "p999_us"),
            number("at requests/s", "half-n3", "rate_per_second"),
            number("N = 10: p50", "half-n10", "p50_us"),
            number("p99", "half-n10", "p99_us"),
            number("p99.9", "half-n10", "p999_us"),
            number("at requests/s", "half-n10", "rate_per_second"),
        ],
        rows: EVERYBODY,
        show: Show::Value,
    },
    Table {
        name: "chunks",
        corner: "CPU per request of 2 MB",
        columns: EVERYBODY,
        rows: &[
            Axis { metric: CPU, ..scenario("in one chunk", "chunks-one") },
            Axis { metric: CPU, ..scenario("in chunks of one byte", "chunks-byte") },
        ],
        show: Show::Both,
    },
    Table {
        name: "start",
        corner: "before any request",
        columns: &[
            number("stripped binary", "start", "stripped_bytes"),
            number("printing the version", "start", "version_us"),
            number("start to first answer", "start", "start_us"),
            number("resident at rest", "start", "rss_bytes"),
            number("threads", "start", "threads"),
        ],
        rows: EVERYBODY,
        show: Show::Value,
    },
    Table {
        name: "memory",
        corner: "memory",
        columns: EVERYBODY,
        rows: &[
            number("an idle client connection, after a request", "idle-10000-used", "bytes_per_connection"),
            number("peak, 1 GiB to 5 endpoints", "upload-1g", "peak_bytes"),
        ],
        show: Show::Value,
    },
    Table {
        name: "faults",
        corner: "p99 as a ratio to all well",
        columns: &[
            label("Fanfare", "fanfare, one bad"),
            label("nginx", "nginx, one bad"),
            label("Envoy", "Envoy, one bad"),
            label("Traefik", "Traefik, one bad"),
        ],
        rows: &[
            number("one endpoint 1 s slow", "any-slow", "p99_us"),
            number("one endpoint drops SYNs", "any-blackhole", "p99_us"),
            number("one endpoint never answers", "any-silent", "p99_us"),
        ],
        show: Show::Against,
    },
];

const EVERYBODY: &[Axis] = &[
    label("bare loop", "bare loop"),
    label("Fanfare", "fanfare"),
    label("nginx", "nginx"),
    label("Envoy", "Envoy"),
    label("Traefik", "Traefik"),
    label("pingora", "pingora"),
];

const fn scenario(title: &'static str, scenario: &'static str) -> Axis {
    Axis { title, scenario: Some(scenario), label: None, metric: None }
}

const fn label(title: &'static str, label: &'static str) -> Axis {
    Axis { title, scenario: None, label: Some(label), metric: None }
}

const fn number(title: &'static str, scenario: &'static str, metric: &'static str) -> Axis {
    Axis { title, scenario: Some(scenario), label: None, metric: Some(metric) }
}
