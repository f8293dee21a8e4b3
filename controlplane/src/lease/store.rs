//! For tests: locks in memory, with resource versions and UIDs like those of an API server.

use kube::core::{ApiResource, DynamicObject};

use super::{
    LockKind,
    candidate::{Answer, Request},
    held::{Held, LockPart},
    lock::{kinds, written},
    record::{Form, Record},
};

/// The objects of one lock.
#[derive(Clone, Debug)]
pub(super) struct SimulatedLock {
    kinds: Vec<(ApiResource, Form)>,
    pub(super) objects: Vec<Option<DynamicObject>>,
    version: u64,
}

impl SimulatedLock {
    pub(super) fn new(lock: LockKind) -> Self {
        let kinds = kinds(lock);
        Self { objects: vec![None; kinds.len()], kinds, version: 0 }
    }

    /// Executes a request. Returns the verb on the first object, and the answer.
    pub(super) fn serve(&mut self, request: &Request) -> (&'static str, Answer) {
        match request {
            Request::Read => ("get", Answer::Lock(self.read())),
            Request::Write { over, record } => {
                let verb = if over.as_ref().is_some_and(|held| held.parts[0].object().is_some()) {
                    "update"
                } else {
                    "create"
                };
                let version = self.version;
                let held = self.write(over.as_ref(), record);
                if held.is_none() && self.version > version {
                    // The first object was written.
                    return (verb, Answer::Failed);
                }
                (verb, held.map_or(Answer::Refused, |held| Answer::Lock(Some(held))))
            }
        }
    }

    pub(super) fn read(&self) -> Option<Held> {
        let part = |((_, form), object): (&(ApiResource, Form), &Option<DynamicObject>)| {
            LockPart::new(*form, object.clone()).expect("the store holds what can be read")
        };
        Held::new(self.kinds.iter().zip(&self.objects).map(part).collect())
    }

    /// Writes every object in turn, until one has another version than the one that was read.
    pub(super) fn write(&mut self, over: Option<&Held>, record: &Record) -> Option<Held> {
        for at in 0..self.kinds.len() {
            let (resource, form) = self.kinds[at].clone();
            let before = over.and_then(|held| held.parts[at].object());
            let object = written(before, form, "lock", &resource, record);
            if !self.put(at, object) {
                return None;
            }
        }
        self.read()
    }

    /// A POST for an object without a version, else a PUT.
    fn put(&mut self, at: usize, mut object: DynamicObject) -> bool {
        let version = |object: &DynamicObject| object.metadata.resource_version.clone();
        if self.objects[at].as_ref().and_then(version) != version(&object) {
            return false;
        }
        self.version += 1;
        object.metadata.resource_version = Some(self.version.to_string());
        object.metadata.uid.get_or_insert(format!("uid-{}", self.version));
        self.objects[at] = Some(object);
        true
    }

    /// Writes a record as client-go does, without the name of a write.
    pub(super) fn overwrite(&mut self, record: &Record) {
        let held = self.read();
        let record = Record { writer: None, ..record.clone() };
        self.write(held.as_ref(), &record).expect("nobody is in between");
    }

    /// Edits the objects, but not their records.
    pub(super) fn label(&mut self) {
        for at in 0..self.objects.len() {
            if let Some(mut object) = self.objects[at].clone() {
                let label = format!("{}", self.version);
                object.metadata.labels.get_or_insert_default().insert("edited".into(), label);
                assert!(self.put(at, object), "it is over what is there");
            }
        }
    }

    pub(super) fn delete(&mut self) {
        self.objects.fill(None);
    }

    pub(super) fn record(&self) -> Record {
        self.read().map(|held| held.record()).unwrap_or_default()
    }
}
