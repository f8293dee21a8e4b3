//! The settings of tracing: the URL of the collector, and the sampling ratio.

use std::{fmt, str::FromStr};

use http::Uri;
use serde::{Serialize, Serializer};

use crate::context::TraceId;

/// The settings of tracing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// The collector.
    pub endpoint: Endpoint,
    /// The recorded share of requests without a parent.
    pub sample: Ratio,
}

/// The URL of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    uri: Uri,
}

/// The text is not a valid URL of a collector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} {1}: use http://HOST:4317 for gRPC or http://HOST:4318/v1/traces for HTTP, https:// for TLS")]
pub struct InvalidEndpoint(String, &'static str);

/// A ratio from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(f64);

/// The text is not a ratio.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a ratio: use a number from 0 (none) to 1 (all), like 0.01")]
pub struct InvalidRatio(String);

// === impl Endpoint ===

impl Endpoint {
    /// Whether it has a path, which means OTLP over HTTP instead of gRPC.
    #[must_use]
    pub fn is_http(&self) -> bool {
        !matches!(self.uri.path(), "" | "/")
    }

    /// Whether it uses TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        // The text may contain a password.
        let shown = if text.contains('@') { "…" } else { text };
        let refuse = |why| InvalidEndpoint(shown.to_owned(), why);
        let uri: Uri = text.parse().map_err(|_| refuse("is not a URL"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(refuse("does not begin with http:// or https://"));
        }
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        if authority.contains('@') {
            return Err(refuse("contains credentials, which belong in the variable OTEL_EXPORTER_OTLP_HEADERS"));
        }
        if uri.host().is_none_or(str::is_empty) {
            return Err(refuse("names no host"));
        }
        if uri.query().is_some() {
            return Err(refuse("has a query"));
        }
        Ok(Self { uri })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The parser adds a slash to a URL without a path.
        let text = self.uri.to_string();
        f.write_str(if self.is_http() { &text } else { text.trim_end_matches('/') })
    }
}

impl Serialize for Endpoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Ratio ===

impl Ratio {
    /// All requests.
    pub const ALL: Self = Self(1.0);

    /// Whether a trace is sampled: decided by its id, as OpenTelemetry's samplers do, so that all services with the same ratio
    /// decide the same.
    #[must_use]
    pub fn takes(self, trace: TraceId) -> bool {
        let bound = (self.0 * (1_u64 << 63) as f64) as u64;
        let [.., a, b, c, d, e, f, g, h] = trace.to_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1 < bound
    }
}

impl FromStr for Ratio {
    type Err = InvalidRatio;

    fn from_str(text: &str) -> Result<Self, InvalidRatio> {
        let ratio: Option<f64> = text.parse().ok();
        ratio.filter(|ratio| (0.0..=1.0).contains(ratio)).map(Self).ok_or_else(|| InvalidRatio(text.to_owned()))
    }
}

impl Serialize for Ratio {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::RequestTrace;

    #[test]
    fn the_path_decides_between_grpc_and_http() {
        for (text, is_http, is_tls) in [
            ("http://127.0.0.1:4317", false, false),
            ("http://collector.observability.svc:4317/", false, false),
            ("https://collector", false, true),
            ("http://[::1]:4318/v1/traces", true, false),
            ("https://collector.example/otlp/v1/traces", true, true),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!((endpoint.is_http(), endpoint.is_tls()), (is_http, is_tls), "{text}");
            assert_eq!(endpoint.to_string(), text.trim_end_matches('/'));
        }
    }

    #[test]
    fn an_address_that_cannot_be_meant_is_refused_and_no_password_is_shown() {
        for (text, why) in [
            ("127.0.0.1:4317", "does not begin with"),
            ("grpc://a:4317", "does not begin with"),
            ("http://", "is not a URL"),
            ("http://a b", "is not a URL"),
            ("http://a/v1/traces?key=1", "has a query"),
            ("https://me:hunter2@a", "contains credentials"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(why) && error.contains("http://HOST:4317"), "{text}: {error}");
            assert!(!error.contains("hunter2"));
        }
    }

    #[test]
    fn a_share_is_taken_by_the_id_of_the_trace() {
        for invalid in ["", "-0.1", "1.1", "NaN", "inf", "10%", "all"] {
            assert!(invalid.parse::<Ratio>().is_err(), "{invalid}");
        }
        let taken = |share: &str| {
            let ratio: Ratio = share.parse().unwrap();
            (0..10_000).filter(|_| RequestTrace::begun(|trace| ratio.takes(trace)).is_sampled()).count()
        };
        assert_eq!((taken("0"), taken("1")), (0, 10_000));
        // Ten standard deviations to either side.
        assert!((2_000..=3_000).contains(&taken("0.25")));
    }
}
