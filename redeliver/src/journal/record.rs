//! Records as bytes: each has a magic word, its length and a checksum, so that it can be found without the store around it.
//!
//! Data from clients is masked at random so that it never contains the magic word: otherwise a crafted request could look like a
//! record when a damaged file is searched.

use crate::{JobId, Request, Stored, Whom};

use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;

/// The magic word at the start of every record.
pub(super) const MAGIC: [u8; 4] = [0xF0, b'o', b'w', 0x9D];
/// The format of the journal, which every record has. A change that an earlier version of Fanfare would misread needs a new number.
pub(super) const FORMAT: u8 = 1;
/// The length of magic word, format, kind, length of the rest, mask of the rest, and checksum of all but the magic word.
const HEAD: usize = 4 + 1 + 1 + 4 + 4 + 4;

/// A record, as it was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// A job without its deliveries.
    Job(Stored),
    /// A delivery of a job.
    Owed { job: JobId, index: u32, whom: Whom, attempts: u32 },
    /// The mark of each commit: its number, and the first owed job.
    Mark { commit: u64, first: u64 },
}

impl Record {
    /// Its form as bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut to = Vec::with_capacity(HEAD + 64);
        to.extend_from_slice(&MAGIC);
        to.extend_from_slice(&[FORMAT, self.kind()]);
        to.resize(HEAD, 0);
        match self {
            Self::Job(job) => {
                for number in [job.id.get(), job.arrived, job.expires] {
                    to.extend_from_slice(&number.to_le_bytes());
                }
                let request = &*job.request;
                for text in [&job.route, &request.method, &request.host] {
                    put(&mut to, text.as_bytes());
                }
                for bytes in [request.target.as_bytes(), &request.head, &request.body] {
                    put(&mut to, bytes);
                }
                // Few have any.
                if !request.trailers.is_empty() {
                    put(&mut to, &request.trailers);
                }
            }
            Self::Owed { job, index, whom, attempts } => {
                to.extend_from_slice(&job.get().to_le_bytes());
                to.extend_from_slice(&index.to_le_bytes());
                to.extend_from_slice(&attempts.to_le_bytes());
                put(&mut to, whom.key.as_bytes());
                put(&mut to, whom.endpoint.as_bytes());
                to.push(u8::from(whom.pod.is_some()));
                put(&mut to, whom.pod.as_deref().unwrap_or_default().as_bytes());
            }
            Self::Mark { commit, first } => {
                to.extend_from_slice(&commit.to_le_bytes());
                to.extend_from_slice(&first.to_le_bytes());
            }
        }
        let length = u32::try_from(to.len() - HEAD).unwrap_or(u32::MAX).to_le_bytes();
        to[6..10].copy_from_slice(&length);
        let mut mask = [0; 4];
        while memmem::find(&to[HEAD..], &MAGIC).is_some() || mask == [0; 4] {
            // Masked twice with different masks is masked with both.
            let further = fastrand::u32(..).to_le_bytes();
            apply_mask(&mut to[HEAD..], further);
            apply_mask(&mut mask, further);
        }
        to[10..14].copy_from_slice(&mask);
        let checksum = checksum(&to[4..14], &to[HEAD..]).to_le_bytes();
        to[14..HEAD].copy_from_slice(&checksum);
        to
    }

    /// The record at the start of these bytes, if it is complete.
    pub(super) fn decode(from: &[u8]) -> Option<Self> {
        let (head, rest) = intact(from).filter(|(head, _)| head[4] == FORMAT)?;
        let mut rest = rest.to_vec();
        apply_mask(&mut rest, head[10..14].try_into().ok()?);
        Fields(&rest).record(head[5])
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Job(_) => 1,
            Self::Owed { .. } => 2,
            Self::Mark { .. } => 3,
        }
    }
}

/// The format of the record at the start of these bytes, if it is complete. In every format a record begins in this way.
pub(super) fn format(from: &[u8]) -> Option<u8> {
    intact(from).map(|(head, _)| head[4])
}

/// The head and the rest of the record at the start of these bytes, if it is complete and its checksum is right.
fn intact(from: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = from.get(..HEAD).filter(|head| head.starts_with(&MAGIC))?;
    let length = usize::try_from(u32::from_le_bytes(head[6..10].try_into().ok()?)).ok()?;
    let rest = from[HEAD..].get(..length)?;
    let expected = u32::from_le_bytes(head[14..HEAD].try_into().ok()?);
    (checksum(&head[4..14], rest) == expected).then_some((head, rest))
}

fn checksum(head: &[u8], rest: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(rest);
    hasher.finalize()
}

fn apply_mask(bytes: &mut [u8], mask: [u8; 4]) {
    bytes.iter_mut().zip(mask.into_iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
}

fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    to.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    to.extend_from_slice(bytes);
}

/// The unread rest of a record.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn record(mut self, kind: u8) -> Option<Record> {
        let record = match kind {
            1 => {
                let (id, arrived, expires) = (JobId::new(self.u64()?), self.u64()?, self.u64()?);
                let (route, method, host) = (self.text()?.into(), self.text()?.into(), self.text()?.into());
                let target = self.text()?.into();
                let head = Bytes::copy_from_slice(self.bytes()?);
                let body = Bytes::copy_from_slice(self.bytes()?);
                let trailers = if self.0.is_empty() { Bytes::new() } else { Bytes::copy_from_slice(self.bytes()?) };
                let request = Arc::new(Request { method, host, target, head, body, trailers });
                Record::Job(Stored { id, route, arrived, expires, request, owed: Vec::new() })
            }
            2 => {
                let (job, index, attempts) = (JobId::new(self.u64()?), self.u32()?, self.u32()?);
                let (key, endpoint) = (self.text()?.into(), self.text()?.into());
                let has_pod = self.take(1)?[0] == 1;
                let pod = Some(self.text()?.into()).filter(|_| has_pod);
                Record::Owed { job, index, whom: Whom { key, endpoint, pod }, attempts }
            }
            3 => Record::Mark { commit: self.u64()?, first: self.u64()? },
            _ => return None,
        };
        self.0.is_empty().then_some(record)
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }
}

/// The same record in another format.
#[cfg(test)]
pub(super) fn in_format(record: &[u8], format: u8) -> Vec<u8> {
    let mut record = record.to_vec();
    record[4] = format;
    let checksum = checksum(&record[4..14], &record[HEAD..]).to_le_bytes();
    record[14..HEAD].copy_from_slice(&checksum);
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<Record> {
        let request = Request {
            method: "PUT".into(),
            host: "cache".into(),
            target: "/x?y".into(),
            head: "A: b\r\n".into(),
            body: Bytes::from_static(&[0, 255, 7]),
            trailers: Bytes::new(),
        };
        let with_trailers = Request { trailers: "Digest: 1\r\n".into(), ..request.clone() };
        let id = JobId::new(77);
        let request = Arc::new(request);
        let job = Stored { id, route: "purges".into(), arrived: 1, expires: 2, request, owed: Vec::new() };
        let whom = Whom { key: "pod shop/cache-0".into(), endpoint: "10.0.0.1:80".into(), pod: Some("cache-0".into()) };
        let nobody = Whom { key: "a".into(), endpoint: "a".into(), pod: None };
        vec![
            Record::Job(job.clone()),
            Record::Job(Stored { request: Arc::new(with_trailers), ..job }),
            Record::Owed { job: id, index: 3, whom, attempts: 9 },
            Record::Owed { job: id, index: 4, whom: nobody, attempts: 0 },
            Record::Mark { commit: 5, first: 77 },
        ]
    }

    #[test]
    fn a_record_is_read_as_it_was_written_also_with_other_bytes_behind_it() {
        for record in records() {
            let mut bytes = record.encode();
            assert_eq!(Record::decode(&bytes).as_ref(), Some(&record));
            bytes.extend_from_slice(b"rest of a page");
            assert_eq!(Record::decode(&bytes), Some(record));
        }
    }

    #[test]
    fn the_magic_word_stands_nowhere_but_at_the_beginning() {
        let Record::Job(mut job) = records().remove(0) else { panic!("the first is a job") };
        let forged = Record::Job(job.clone()).encode();
        Arc::make_mut(&mut job.request).body = [forged.clone(), forged].concat().into();
        for _ in 0..100 {
            let bytes = Record::Job(job.clone()).encode();
            assert_eq!(memmem::find_iter(&bytes, &MAGIC).collect::<Vec<_>>(), [0]);
        }
    }

    #[test]
    fn a_record_with_any_byte_changed_or_missing_is_none() {
        for record in records() {
            let bytes = record.encode();
            for at in 0..bytes.len() {
                let mut changed = bytes.clone();
                changed[at] ^= 0x41;
                assert_eq!(Record::decode(&changed), None, "byte {at} of {record:?}");
                assert_eq!(Record::decode(&bytes[..at]), None);
            }
        }
    }
}
