//! The record of an election, and its two forms: a Lease's spec, and the JSON of an annotation.
//!
//! Both are merged into the existing object, so that unknown fields stay (`strategy`, `preferredHolder`).

use jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::{Map, Value, json};

/// The annotation of ConfigMaps and Endpoints that holds the record (client-go's `LeaderElectionRecordAnnotationKey`).
pub(super) const ANNOTATION: &str = "control-plane.alpha.kubernetes.io/leader";

/// The content of a lock (client-go's `LeaderElectionRecord`, `LeaseSpec` of `coordination.k8s.io/v1`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// `holderIdentity`; empty if the lease is free.
    pub(super) holder: String,
    /// `leaseDurationSeconds`.
    pub(super) lease_seconds: i64,
    /// `acquireTime`, by the holder's clock.
    pub(super) acquired: Option<Timestamp>,
    /// `renewTime`, by the holder's clock.
    pub(super) renewed: Option<Timestamp>,
    /// `leaderTransitions` or `leaseTransitions`.
    pub(super) transitions: u64,
    /// The process that wrote it, and the number of the write. Only in annotations: their times have whole seconds, so that two
    /// writes, even of two processes, could be equal without it. client-go ignores it, and drops it when it writes.
    pub(super) writer: Option<String>,
}

/// The place of the record in an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `spec` of a Lease.
    Spec,
    /// [`ANNOTATION`].
    Annotation,
}

/// A record that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} cannot be read: {why}")]
pub(super) struct Malformed {
    field: &'static str,
    why: String,
}

/// The names of the fields in one form.
struct Fields {
    transitions: &'static str,
    /// The format of times.
    time: &'static str,
    writer: Option<&'static str>,
}

const SPEC_FIELDS: Fields = Fields { transitions: "leaseTransitions", time: "%Y-%m-%dT%H:%M:%S%.6fZ", writer: None };
const ANNOTATION_FIELDS: Fields =
    Fields { transitions: "leaderTransitions", time: "%Y-%m-%dT%H:%M:%SZ", writer: Some("writer") };

impl Form {
    /// The record in an object, and its raw text, by which a change is noticed. An object without one holds an empty one.
    pub(super) fn read(self, object: &DynamicObject) -> Result<(Record, String), Malformed> {
        match self {
            Self::Spec => match object.data.get("spec") {
                None | Some(Value::Null) => Ok((Record::default(), String::new())),
                Some(Value::Object(spec)) => Ok((read(spec, &SPEC_FIELDS)?, Value::from(spec.clone()).to_string())),
                Some(_) => Err(Malformed { field: "spec", why: "it is not an object".into() }),
            },
            Self::Annotation => {
                let Some(text) = annotation(object) else { return Ok((Record::default(), String::new())) };
                Ok((read(&parse(text)?, &ANNOTATION_FIELDS)?, text.to_owned()))
            }
        }
    }

    /// Writes the record into an object, over the existing one.
    pub(super) fn write(self, object: &mut DynamicObject, record: &Record) {
        match self {
            Self::Spec => {
                let mut spec = match object.data.get_mut("spec").map(Value::take) {
                    Some(Value::Object(spec)) => spec,
                    _ => Map::new(),
                };
                write(&mut spec, record, &SPEC_FIELDS);
                match &mut object.data {
                    Value::Object(data) => drop(data.insert("spec".into(), spec.into())),
                    data => *data = json!({"spec": spec}),
                }
            }
            Self::Annotation => {
                // An annotation that cannot be parsed is an error of the read, so it never gets here.
                let mut map = annotation(object).and_then(|text| parse(text).ok()).unwrap_or_default();
                write(&mut map, record, &ANNOTATION_FIELDS);
                let annotations = object.metadata.annotations.get_or_insert_default();
                annotations.insert(ANNOTATION.into(), Value::from(map).to_string());
            }
        }
    }

    /// Whether what was found is what was written, and not the like from somebody else.
    pub(super) fn is(self, written: &Record, found: &Record) -> bool {
        let cut = |time: Option<Timestamp>| time.map(|time| self.precise(time));
        let same_writer = match self {
            Self::Spec => true,
            Self::Annotation => found.writer.is_some() && found.writer == written.writer,
        };
        same_writer
            && (&written.holder, written.transitions, written.lease_seconds)
                == (&found.holder, found.transitions, found.lease_seconds)
            && (cut(written.acquired), cut(written.renewed)) == (cut(found.acquired), cut(found.renewed))
    }

    /// The time in the resolution of this form.
    fn precise(self, time: Timestamp) -> i64 {
        match self {
            Self::Spec => time.as_microsecond(),
            Self::Annotation => time.as_second(),
        }
    }
}

fn annotation(object: &DynamicObject) -> Option<&str> {
    let text = object.metadata.annotations.as_ref()?.get(ANNOTATION)?;
    Some(text).filter(|text| !text.is_empty()).map(String::as_str)
}

fn parse(text: &str) -> Result<Map<String, Value>, Malformed> {
    serde_json::from_str(text).map_err(|e| Malformed { field: ANNOTATION, why: e.to_string() })
}

fn read(map: &Map<String, Value>, fields: &Fields) -> Result<Record, Malformed> {
    let transitions = integer(map, fields.transitions)?;
    if transitions >= i64::from(i32::MAX) {
        let why = format!("{transitions} leaves no number for the next term");
        return Err(Malformed { field: fields.transitions, why });
    }
    Ok(Record {
        holder: text(map, "holderIdentity")?.unwrap_or_default().to_owned(),
        lease_seconds: integer(map, "leaseDurationSeconds")?,
        acquired: time(map, "acquireTime")?,
        renewed: time(map, "renewTime")?,
        // The API forbids negative numbers, but an annotation could hold one.
        transitions: u64::try_from(transitions).unwrap_or_default(),
        writer: fields.writer.map(|field| text(map, field)).transpose()?.flatten().map(str::to_owned),
    })
}

fn write(map: &mut Map<String, Value>, record: &Record, fields: &Fields) {
    let time = |time: Option<Timestamp>| time.map_or(Value::Null, |time| time.strftime(fields.time).to_string().into());
    map.insert("holderIdentity".into(), record.holder.clone().into());
    map.insert("leaseDurationSeconds".into(), record.lease_seconds.into());
    map.insert("acquireTime".into(), time(record.acquired));
    map.insert("renewTime".into(), time(record.renewed));
    map.insert(fields.transitions.into(), record.transitions.into());
    if let Some(field) = fields.writer {
        map.insert(field.into(), record.writer.clone().into());
    }
}

fn text<'a>(map: &'a Map<String, Value>, field: &'static str) -> Result<Option<&'a str>, Malformed> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Malformed { field, why: format!("{other} is not text") }),
    }
}

fn integer(map: &Map<String, Value>, field: &'static str) -> Result<i64, Malformed> {
    match map.get(field) {
        None | Some(Value::Null) => Ok(0),
        Some(value) => value.as_i64().ok_or_else(|| Malformed { field, why: format!("{value} is not a whole number") }),
    }
}

fn time(map: &Map<String, Value>, field: &'static str) -> Result<Option<Timestamp>, Malformed> {
    match text(map, field)? {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|e| Malformed { field, why: format!("{text:?}: {e}") }),
    }
}

#[cfg(test)]
mod tests;
