//! Explains to operators why a connection with TLS has failed.

use std::io;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::certificate::{date, shown};
use super::verify::CertificateFault;

/// The role of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It is a client.
    Client,
    /// It is an endpoint.
    Endpoint,
}

impl Side {
    fn peer(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Endpoint => "endpoint",
        }
    }
}

/// The explanation of an error that comes from TLS; none for other errors. In TLS 1.3 only the first read shows whether our
/// certificate was accepted, so call this for errors after the handshake too.
#[must_use]
pub fn explain(error: &io::Error, side: Side) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    Some(text(error, side))
}

fn text(error: &Error, side: Side) -> String {
    let peer = side.peer();
    match error {
        Error::InvalidCertificate(fault) => format!("the certificate of the {peer} {}", certificate(fault)),
        Error::NoCertificatesPresented => format!("the {peer} has shown no certificate, and one is required"),
        Error::AlertReceived(alert) => received(*alert, side),
        Error::NoApplicationProtocol => format!("the {peer} speaks none of the protocols that were offered (ALPN)"),
        Error::InvalidMessage(InvalidMessage::InvalidContentType | InvalidMessage::UnknownProtocolVersion) => {
            format!("the {peer} does not speak TLS: it has sent something else")
        }
        Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13)
        | Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled)
        | Error::PeerIncompatible(PeerIncompatible::Tls13RequiredForQuic)
        | Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired) => {
            format!("the {peer} speaks no version of TLS that is allowed here")
        }
        Error::PeerIncompatible(why) => format!("the {peer} and this process have no common ground in TLS: {why:?}"),
        other => format!("TLS with the {peer} has failed: {}", shown(&other.to_string())),
    }
}

/// Explains an alert of the peer.
fn received(alert: AlertDescription, side: Side) -> String {
    let peer = side.peer();
    match (alert, side) {
        (AlertDescription::CertificateRequired, Side::Endpoint) => {
            "the endpoint requires a client certificate, and none is configured or it trusts none of ours".to_owned()
        }
        (
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied,
            _,
        ) => format!("the {peer} refuses the certificate of this side ({alert:?})"),
        (AlertDescription::NoApplicationProtocol, _) => {
            format!("the {peer} speaks none of the protocols that were offered (ALPN)")
        }
        (AlertDescription::UnrecognisedName, Side::Endpoint) => {
            "the endpoint has no certificate for the name that it was asked for (UnrecognisedName)".to_owned()
        }
        (AlertDescription::ProtocolVersion, _) => format!("the {peer} speaks no version of TLS that is allowed here"),
        (AlertDescription::HandshakeFailure, Side::Endpoint) => {
            "the endpoint refuses the handshake (HandshakeFailure): it may require a client certificate, or share no cipher"
                .to_owned()
        }
        _ => format!("the {peer} has ended TLS ({alert:?})"),
    }
}

/// What is wrong with a certificate, as the end of a sentence.
fn certificate(fault: &CertificateError) -> String {
    let at = |time: &UnixTime| date(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    match fault {
        CertificateError::Expired => "has expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => format!("has expired at {}", at(not_after)),
        CertificateError::NotValidYet => "is not valid yet".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("is not valid before {}: compare the clocks", at(not_before))
        }
        CertificateError::UnknownIssuer => "is signed by none of the authorities that are trusted".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            format!("is for {}, not for {}", names(presented), shown(&expected.to_str()))
        }
        CertificateError::NotValidForName => "is for another name".to_owned(),
        CertificateError::BadSignature => "is not signed by the key of its issuer".to_owned(),
        CertificateError::BadEncoding => "is malformed".to_owned(),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not meant for this side of a connection (its extended key usage)".to_owned()
        }
        CertificateError::Other(other) => match other.0.downcast_ref::<CertificateFault>() {
            Some(fault) => fault.to_string(),
            None => format!("is refused: {}", shown(&other.to_string())),
        },
        other => format!("is refused: {}", shown(&other.to_string())),
    }
}

/// Names as the library tells them (`DnsName("a.example")`), for people.
fn names(presented: &[String]) -> String {
    let inner = |name: &String| match name.split_once('(') {
        Some((_, inner)) => shown(inner.trim_end_matches(')').trim_matches('"')),
        None => shown(name),
    };
    match presented {
        [] => "no names".to_owned(),
        some if some.len() > 8 => {
            format!("{} and {} more", some[..8].iter().map(inner).collect::<Vec<_>>().join(", "), some.len() - 8)
        }
        some => some.iter().map(inner).collect::<Vec<_>>().join(", "),
    }
}
