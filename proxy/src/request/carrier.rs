//! The carrier of a request and its answer: an HTTP/1.1 connection or an HTTP/2 stream.

use crate::{
    connection::{Place, draining::Draining},
    downstream::Downstream,
    exchange::{BodyForm, Inbound, Outbound, Outgoing, alarm::Alarm, pace::Pace},
    http::{Framing, body::BodyReader, chunked::Decoder, request::RequestHead},
    http2::stream::{StreamAnswer, StreamBody},
    seats::Seat,
};

/// The carrier of a request.
pub(crate) enum Carrier<'a> {
    /// A connection that speaks HTTP/1.1.
    Http1(Http1Carrier<'a>),
    /// A stream of a connection that speaks HTTP/2.
    Http2(Http2Carrier),
}

/// An HTTP/1.1 connection, as far as one request needs it.
pub(crate) struct Http1Carrier<'a> {
    client: &'a mut Downstream,
    body: BodyReader,
    draining: &'a Draining,
    seat: &'a Seat,
}

/// A stream of HTTP/2.
pub(crate) struct Http2Carrier {
    body: StreamBody,
    answer: StreamAnswer,
    /// Its place on the connection, until the last leg has ended.
    place: Option<Place>,
}

// === impl Carrier ===

impl Carrier<'_> {
    /// The source of its body.
    pub(super) fn inbound(&mut self) -> Inbound<'_> {
        match self {
            Self::Http1(http1) => Inbound::Http1(http1.client, &mut http1.body),
            Self::Http2(http2) => Inbound::Http2(&mut http2.body),
        }
    }

    /// The destination of its answer.
    pub(super) fn outbound(&mut self) -> Outbound<'_> {
        match self {
            Self::Http1(http1) => Outbound::Http1(http1.client),
            Self::Http2(http2) => Outbound::Http2(&mut http2.answer),
        }
    }

    /// Both at once, for reading the body while the answer is sent, which only HTTP/2 supports.
    pub(super) fn both(&mut self) -> (Option<Inbound<'_>>, Outbound<'_>) {
        match self {
            Self::Http1(http1) => (None, Outbound::Http1(http1.client)),
            Self::Http2(http2) => (Some(Inbound::Http2(&mut http2.body)), Outbound::Http2(&mut http2.answer)),
        }
    }

    /// Whether the connection must be closed after the request.
    pub(super) fn has_to_end(&self) -> bool {
        match self {
            Self::Http1(http1) => http1.draining.has_begun() || http1.seat.is_cut(),
            // The connection sends GOAWAY, independently of requests.
            Self::Http2(_) => false,
        }
    }

    /// Takes its place on the connection, for the time until its last leg has ended.
    pub(super) fn take_place(&mut self) -> Option<Place> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(http2) => http2.place.take(),
        }
    }

    /// Sends 100 Continue to a client that waits for it.
    pub(super) async fn ask_for_body(&mut self, head: &RequestHead, pace: Pace, alarm: &mut Alarm) {
        match self {
            Self::Http1(http1) => {
                let waits = head.expects_continue && http1.client.buffer.is_empty();
                if waits && !matches!(http1.body, BodyReader::Length(0)) {
                    let mut out = Outgoing::new(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), BodyForm::Plain);
                    out.flush(&mut Outbound::Http1(http1.client), pace, alarm).await;
                }
            }
            Self::Http2(http2) if head.expects_continue && !http2.body.has_ended() => http2.answer.ask_for_body(),
            Self::Http2(_) => {}
        }
    }
}

// === impl Http1Carrier ===

impl<'a> Http1Carrier<'a> {
    /// The connection on which this head has come.
    pub(crate) fn new(head: &RequestHead, client: &'a mut Downstream, draining: &'a Draining, seat: &'a Seat) -> Self {
        let body = match head.framing {
            Framing::Unspecified => BodyReader::EMPTY,
            Framing::Length(length) => BodyReader::Length(length),
            Framing::Chunked => BodyReader::Chunked(Decoder::default()),
        };
        Self { client, body, draining, seat }
    }
}

// === impl Http2Carrier ===

impl Http2Carrier {
    /// The stream on which a request has come.
    pub(crate) fn new(body: StreamBody, answer: StreamAnswer, place: Place) -> Self {
        Self { body, answer, place: Some(place) }
    }
}
