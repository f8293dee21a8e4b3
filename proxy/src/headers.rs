//! Header rules: which fields of a request go to the endpoints, and which of a response go to the client.
//!
//! Hop-by-hop fields and those that `Connection` names stop here, in both directions (RFC 9110 section 7.6.1). Messages
//! are always framed anew. Order, repetition and case of everything else are kept.

mod answer;
mod ask;
mod fields;
mod leg;
mod write;

pub use self::{
    answer::{AnswerFraming, put_answer, put_framing},
    ask::{REPORT_MEDIA_TYPE, has_passed, is_trusted, prefers_async, report_excerpt, wants_report},
    leg::{Forwarding, leg_head, put_leg_head},
    write::{put_number, put_status, put_text},
};

#[cfg(test)]
mod tests;
