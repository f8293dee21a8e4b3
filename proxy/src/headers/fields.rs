//! The fields that go on unchanged, and those that `Connection` keeps back.

use std::hint::cold_path;

use bytes::BufMut;

use super::write::put;
use crate::http::{Class, Field, Fields};

/// The names that the `Connection` fields of a head nominate, besides the well-known ones. None where there is nothing but
/// `close` and `keep-alive`, as usual.
pub(super) struct Nominated<'a>(Option<&'a Fields>);

/// Copies fields unchanged. Adjacent fields whose lines need no change are copied in one piece: most heads have only such fields.
pub(super) struct VerbatimFields<'a> {
    head: &'a [u8],
    /// The piece that is to be copied next.
    from: usize,
    to: usize,
}

impl<'a> Nominated<'a> {
    pub(super) fn of(fields: &'a Fields) -> Self {
        Self(fields.nominates().then_some(fields))
    }

    pub(super) fn has(&self, name: &[u8]) -> bool {
        let Some(fields) = self.0 else { return false };
        cold_path();
        fields.list(Class::Connection).any(|nominated| nominated.eq_ignore_ascii_case(name))
    }
}

impl<'a> VerbatimFields<'a> {
    pub(super) fn of(fields: &'a Fields) -> Self {
        Self { head: fields.bytes(), from: 0, to: 0 }
    }

    pub(super) fn parts(&self, field: &Field) -> (&'a [u8], &'a [u8]) {
        (field.name.get(self.head), field.value.get(self.head))
    }

    pub(super) fn copy(&mut self, out: &mut impl BufMut, field: &Field) {
        let Some(line) = field.plain_line(self.head) else {
            cold_path();
            self.flush(out);
            let (name, value) = self.parts(field);
            return put(out, name, value);
        };
        if line.start != self.to {
            self.flush(out);
            self.from = line.start;
        }
        self.to = line.end;
    }

    pub(super) fn flush(&mut self, out: &mut impl BufMut) {
        if self.from < self.to {
            out.put_slice(&self.head[self.from..self.to]);
        }
        (self.from, self.to) = (0, 0);
    }
}
