//! The error types of the `Proxy-Status` field (RFC 9209 section 2.3) that are used here.

/// What went wrong, for machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// As many connections or requests as may be are there already.
    ConnectionLimitReached,
    /// Nothing came from the endpoint in time.
    ConnectionReadTimeout,
    /// The endpoint refused the connection.
    ConnectionRefused,
    /// The connection ended before the response began.
    ConnectionTerminated,
    /// No connection came about in time.
    ConnectionTimeout,
    /// The endpoint took nothing in time.
    ConnectionWriteTimeout,
    /// No way leads to the endpoint's address.
    DestinationIpUnroutable,
    /// No route matches.
    DestinationNotFound,
    /// There is no endpoint, or it cannot be used.
    DestinationUnavailable,
    /// The endpoint's name does not resolve.
    DnsError,
    /// The endpoint does not speak HTTP as it must.
    HttpProtocolError,
    /// The request is not allowed here.
    HttpRequestDenied,
    /// The client is at fault.
    HttpRequestError,
    /// The response is too long to be kept.
    HttpResponseBodySize,
    /// The response ended before its end.
    HttpResponseIncomplete,
    /// The response was not complete in time.
    HttpResponseTimeout,
    /// This process is short of something.
    ProxyInternalError,
    /// No endpoint has given an answer that could be passed on.
    ProxyInternalResponse,
    /// The request has been here before.
    ProxyLoopDetected,
    /// The endpoint has ended TLS with an alert.
    TlsAlertReceived,
    /// The certificate of the endpoint is not good.
    TlsCertificateError,
    /// TLS with the endpoint has failed otherwise.
    TlsProtocolError,
}

// === impl ProxyError ===

impl ProxyError {
    /// Its name in the field.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionLimitReached => "connection_limit_reached",
            Self::ConnectionReadTimeout => "connection_read_timeout",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionTerminated => "connection_terminated",
            Self::ConnectionTimeout => "connection_timeout",
            Self::ConnectionWriteTimeout => "connection_write_timeout",
            Self::DestinationIpUnroutable => "destination_ip_unroutable",
            Self::DestinationNotFound => "destination_not_found",
            Self::DestinationUnavailable => "destination_unavailable",
            Self::DnsError => "dns_error",
            Self::HttpProtocolError => "http_protocol_error",
            Self::HttpRequestDenied => "http_request_denied",
            Self::HttpRequestError => "http_request_error",
            Self::HttpResponseBodySize => "http_response_body_size",
            Self::HttpResponseIncomplete => "http_response_incomplete",
            Self::HttpResponseTimeout => "http_response_timeout",
            Self::ProxyInternalError => "proxy_internal_error",
            Self::ProxyInternalResponse => "proxy_internal_response",
            Self::ProxyLoopDetected => "proxy_loop_detected",
            Self::TlsAlertReceived => "tls_alert_received",
            Self::TlsCertificateError => "tls_certificate_error",
            Self::TlsProtocolError => "tls_protocol_error",
        }
    }
}
