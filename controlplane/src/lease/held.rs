//! A lock as it was read: one object, or two that must agree.

use std::{collections::VecDeque, sync::Arc};

use kube::core::DynamicObject;

use super::{
    config::UNKNOWN,
    record::{Form, Malformed, Record},
};

/// The most unacknowledged writes that a candidate recognises. Usually the next answer settles them; more are open only if the API
/// server accepts writes and every answer is lost.
const MAX_OPEN_WRITES: usize = 32;

/// A lock of which at least one object exists.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// In the order of the lock.
    pub(super) parts: Vec<LockPart>,
}

/// One object of a lock.
#[derive(Clone, Debug)]
pub(super) struct LockPart {
    form: Form,
    found: Option<LockObject>,
}

#[derive(Clone, Debug)]
struct LockObject {
    object: DynamicObject,
    record: Record,
    raw: String,
}

/// The writes of one process, by which it recognises its own record.
#[derive(Debug, Default)]
pub(super) struct Writes {
    last: VecDeque<Write>,
}

#[derive(Debug)]
struct Write {
    record: Record,
    /// The UIDs of the objects that were overwritten: a copy that is created later is not ours. Unknown for objects that were
    /// created without an answer.
    uids: Vec<Option<String>>,
}

impl LockPart {
    pub(super) fn new(form: Form, object: Option<DynamicObject>) -> Result<Self, Malformed> {
        let found = object.map(|object| {
            let (record, raw) = form.read(&object)?;
            Ok(LockObject { object, record, raw })
        });
        Ok(Self { form, found: found.transpose()? })
    }

    /// The object, if it exists.
    pub(super) fn object(&self) -> Option<&DynamicObject> {
        self.found.as_ref().map(|found| &found.object)
    }

    fn uid(&self) -> Option<&str> {
        self.object()?.metadata.uid.as_deref()
    }
}

impl Held {
    /// The lock, unless none of its objects exists.
    pub(super) fn new(parts: Vec<LockPart>) -> Option<Self> {
        parts.iter().any(|part| part.found.is_some()).then_some(Self { parts })
    }

    /// The record of the whole lock. If two objects name different holders, the holder is [`UNKNOWN`], as in client-go; of two
    /// objects, the longer lease and the greater number of transitions count.
    pub(super) fn record(&self) -> Record {
        let mut records = self.found().map(|found| &found.record);
        let first = records.next().cloned().unwrap_or_default();
        records.fold(first, |mut whole, part| {
            if whole.holder != part.holder {
                whole.holder = UNKNOWN.into();
            }
            whole.lease_seconds = whole.lease_seconds.max(part.lease_seconds);
            whole.transitions = whole.transitions.max(part.transitions);
            whole
        })
    }

    /// The raw text of the record, by which renewals are noticed. It excludes the rest of the object, so that an edited label is
    /// not a renewal.
    pub(super) fn raw(&self) -> String {
        let raws: Vec<&str> = self.found().map(|found| found.raw.as_str()).collect();
        raws.join(",")
    }

    /// The UID within which terms are ordered: that of the last object, which remains after a migration.
    pub(super) fn uid(&self) -> Arc<str> {
        self.parts.iter().rev().find_map(LockPart::uid).unwrap_or_default().into()
    }

    fn found(&self) -> impl Iterator<Item = &LockObject> {
        self.parts.iter().filter_map(|part| part.found.as_ref())
    }
}

impl Writes {
    /// Records a write that is about to be sent.
    pub(super) fn sending(&mut self, record: &Record, over: Option<&Held>) {
        if self.last.len() == MAX_OPEN_WRITES {
            self.last.pop_front();
        }
        let uids = over.map(|held| held.parts.iter().map(|part| part.uid().map(str::to_owned)).collect());
        self.last.push_back(Write { record: record.clone(), uids: uids.unwrap_or_default() });
    }

    /// Records that the last write was acknowledged, which settles all earlier ones.
    pub(super) fn acknowledged(&mut self, held: &Held) {
        let Some(mut write) = self.last.pop_back() else { return };
        write.uids = held.parts.iter().map(|part| part.uid().map(str::to_owned)).collect();
        self.last.clear();
        self.last.push_back(write);
    }

    /// Records that the last write did not happen: an equal record is another writer's.
    pub(super) fn refused(&mut self) {
        self.last.pop_back();
    }

    /// Whether this process wrote every existing object of the lock.
    pub(super) fn wrote(&self, held: &Held) -> bool {
        held.parts
            .iter()
            .enumerate()
            .filter(|(_, part)| part.found.is_some())
            .all(|(at, part)| self.last.iter().any(|write| write.made(at, part)))
    }
}

impl Write {
    fn made(&self, at: usize, part: &LockPart) -> bool {
        let Some(found) = &part.found else { return false };
        let same_object = self.uids.get(at).and_then(Option::as_deref).is_none_or(|uid| Some(uid) == part.uid());
        same_object && part.form.is(&self.record, &found.record)
    }
}
