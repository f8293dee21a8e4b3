//! What kind of field a name is: found out once, when a head is parsed, so that nothing compares names again.

/// The kinds of fields that a proxy treats in a way of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// `Accept`
    Accept,
    /// `Authorization`
    Authorization,
    /// `Connection`
    Connection,
    /// `Proxy-Connection`, which some endpoints still send for `Connection`.
    ProxyConnection,
    /// `Content-Length`
    ContentLength,
    /// `Transfer-Encoding`
    TransferEncoding,
    /// `Expect`
    Expect,
    /// `Host`
    Host,
    /// `Upgrade`
    Upgrade,
    /// Any other field that concerns one connection only (RFC 9110 section 7.6.1).
    HopByHop,
    /// `Via`
    Via,
    /// `X-Request-Id`
    RequestId,
    /// `X-Forwarded-For`
    ForwardedFor,
    /// `X-Forwarded-Proto`
    ForwardedProto,
    /// `X-Forwarded-Host`
    ForwardedHost,
    /// `Forwarded`, and any other `X-Forwarded-*`.
    Forwarded,
    /// `traceparent`
    TraceParent,
    /// `tracestate`
    TraceState,
    /// `Idempotency-Key`
    IdempotencyKey,
    /// `X-Broadcast-*`
    Broadcast,
    /// Everything else: passed on as it came.
    Other,
}

impl Class {
    /// Whether such a field is never passed on as it came, in either direction: it concerns one connection, frames a body, or is this
    /// proxy's own.
    #[must_use]
    pub fn is_never_forwarded(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::ProxyConnection
                | Self::HopByHop
                | Self::Upgrade
                | Self::ContentLength
                | Self::TransferEncoding
                | Self::Broadcast
        )
    }

    /// The class of a field name, without regard to case.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let Some(first) = name.first() else { return Self::Other };
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        let starts = |prefix: &str| name.get(..prefix.len()).is_some_and(|n| n.eq_ignore_ascii_case(prefix.as_bytes()));
        // By length and first letter, so that nearly every name is compared with one other at most.
        match (name.len(), first.to_ascii_lowercase()) {
            (2, b't') if is("te") => Self::HopByHop,
            (3, b'v') if is("via") => Self::Via,
            (4, b'h') if is("host") => Self::Host,
            (6, b'a') if is("accept") => Self::Accept,
            (6, b'e') if is("expect") => Self::Expect,
            (7, b'u') if is("upgrade") => Self::Upgrade,
            (7, b't') if is("trailer") => Self::HopByHop,
            (9, b'f') if is("forwarded") => Self::Forwarded,
            (10, b'c') if is("connection") => Self::Connection,
            (10, b't') if is("tracestate") => Self::TraceState,
            (11, b't') if is("traceparent") => Self::TraceParent,
            (10, b'k') if is("keep-alive") => Self::HopByHop,
            (12, b'x') if is("x-request-id") => Self::RequestId,
            (13, b'a') if is("authorization") => Self::Authorization,
            (14, b'c') if is("content-length") => Self::ContentLength,
            (15, b'i') if is("idempotency-key") => Self::IdempotencyKey,
            (15, b'x') if is("x-forwarded-for") => Self::ForwardedFor,
            (16, b'x') if is("x-forwarded-host") => Self::ForwardedHost,
            (16, b'p') if is("proxy-connection") => Self::ProxyConnection,
            (17, b'x') if is("x-forwarded-proto") => Self::ForwardedProto,
            (17, b't') if is("transfer-encoding") => Self::TransferEncoding,
            (18, b'p') if is("proxy-authenticate") => Self::HopByHop,
            (19, b'p') if is("proxy-authorization") => Self::HopByHop,
            (_, b'x') if starts("x-forwarded-") => Self::Forwarded,
            (_, b'x') if starts("x-broadcast-") => Self::Broadcast,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_its_class_whatever_its_case() {
        let known = [
            ("accept", Class::Accept),
            ("authorization", Class::Authorization),
            ("connection", Class::Connection),
            ("proxy-connection", Class::ProxyConnection),
            ("content-length", Class::ContentLength),
            ("transfer-encoding", Class::TransferEncoding),
            ("expect", Class::Expect),
            ("host", Class::Host),
            ("upgrade", Class::Upgrade),
            ("te", Class::HopByHop),
            ("trailer", Class::HopByHop),
            ("keep-alive", Class::HopByHop),
            ("proxy-authenticate", Class::HopByHop),
            ("proxy-authorization", Class::HopByHop),
            ("via", Class::Via),
            ("x-request-id", Class::RequestId),
            ("x-forwarded-for", Class::ForwardedFor),
            ("x-forwarded-proto", Class::ForwardedProto),
            ("x-forwarded-host", Class::ForwardedHost),
            ("x-forwarded-port", Class::Forwarded),
            ("forwarded", Class::Forwarded),
            ("idempotency-key", Class::IdempotencyKey),
            ("x-broadcast-result", Class::Broadcast),
            ("traceparent", Class::TraceParent),
            ("tracestate", Class::TraceState),
            ("x-forwarded", Class::Other),
            ("accept-encoding", Class::Other),
            ("", Class::Other),
        ];
        for (name, class) in known {
            assert_eq!(Class::of(name.as_bytes()), class, "{name}");
            assert_eq!(Class::of(name.to_ascii_uppercase().as_bytes()), class, "{name}");
        }
    }
}
