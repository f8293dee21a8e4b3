//! The head of an answer to the client: the fields of an endpoint's response, changed by the route and framed anew.

use bytes::BufMut;

use super::{
    fields::{Nominated, VerbatimFields},
    write::{put_length, put_status},
};
use crate::{config::FieldEdits, http::response::ResponseHead};

/// How the body of an answer is framed towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFraming {
    /// This many bytes; for an answer without a body, the length that it would have.
    Length(u64),
    /// Chunked.
    Chunked,
    /// Until the connection closes.
    Close,
    /// By the frames of HTTP/2.
    Frames,
    /// No body, and no field about its length.
    Bodiless,
}

/// Writes the status line and the fields of an endpoint's response, as the route changes them and framed for the client.
pub fn put_answer(out: &mut impl BufMut, head: &ResponseHead, framing: AnswerFraming, edits: &FieldEdits) {
    put_status(out, head.status, head.reason());
    let nominated = Nominated::of(&head.fields);
    let mut verbatim = VerbatimFields::of(&head.fields);
    for field in head.fields.fields() {
        match field.class {
            class if class.is_never_forwarded() => {}
            _ if nominated.has(verbatim.parts(field).0) => {}
            _ if edits.drops(verbatim.parts(field).0) => {}
            _ => verbatim.copy(out, field),
        }
    }
    verbatim.flush(out);
    out.put_slice(edits.lines());
    put_framing(out, framing);
}

/// Writes the fields that frame a body.
pub fn put_framing(out: &mut impl BufMut, framing: AnswerFraming) {
    match framing {
        AnswerFraming::Length(length) => put_length(out, length),
        AnswerFraming::Chunked => out.put_slice(b"Transfer-Encoding: chunked\r\n"),
        AnswerFraming::Close | AnswerFraming::Frames | AnswerFraming::Bodiless => {}
    }
}
