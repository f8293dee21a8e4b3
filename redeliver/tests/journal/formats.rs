//! A journal in the format of another version of Fanfare is not changed, and usable again with its own version.

use super::common::{Told, job, put};

use std::{collections::BTreeSet, fs, path::Path};

use redeliver::journal::{Health, Journal, JournalError, check};
use tempfile::tempdir;

/// What a record begins with, and the length of its head.
const MAGIC: [u8; 4] = [0xF0, b'o', b'w', 0x9D];
const HEAD: usize = 18;

/// The same file with all its records in another format.
fn in_format(bytes: &[u8], format: u8) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in memchr::memmem::find_iter(&bytes.clone(), &MAGIC) {
        let length = u32::from_le_bytes(bytes[at + 6..at + 10].try_into().unwrap()) as usize;
        bytes[at + 4] = format;
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&bytes[at + 4..at + 14]);
        // Of a page that is not in use there may be only a part.
        hasher.update(bytes.get(at + HEAD..at + HEAD + length).unwrap_or_default());
        bytes[at + 14..at + HEAD].copy_from_slice(&hasher.finalize().to_le_bytes());
    }
    bytes
}

fn files(directory: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    // The lock is made by everyone who opens the journal.
    names.filter(|name| name != "journal.lock").collect()
}

#[test]
fn rule_6_a_journal_of_another_version_is_named_and_left_as_it_is() {
    let directory = tempdir().unwrap();
    let path = directory.path().join("journal.redb");
    let told = Told::new();
    let journal = Journal::start(directory.path(), told.clone()).unwrap();
    told.jobs();
    journal.write((1..=30).map(|id| put(id, 300)).collect());
    assert!(told.taken(30));
    let crashed = fs::read(&path).unwrap();
    let noted = fs::read(directory.path().join("journal.commits")).unwrap();
    check(directory.path()).expect("one that is open can be checked");
    journal.close();
    let closed = fs::read(&path).unwrap();

    for (bytes, noted) in [(&closed, None), (&crashed, Some(&noted))] {
        for (format, age) in [(0, "an older"), (2, "a newer"), (255, "a newer")] {
            let other = in_format(bytes, format);
            fs::write(&path, &other).unwrap();
            if let Some(noted) = noted {
                fs::write(directory.path().join("journal.commits"), noted).unwrap();
            }
            let before = files(directory.path());
            let error = check(directory.path()).unwrap_err();
            assert!(matches!(error, JournalError::Format { found, .. } if found == format), "{error}");

            let told = Told::new();
            let journal = Journal::start(directory.path(), told.clone()).unwrap();
            let error = told.wait("it fails", |state| match state.health.first() {
                Some(Health::Failed(error)) => Some(error.clone()),
                _ => None,
            });
            let expected =
                format!("has format {format}, which {age} version of Fanfare wrote, and this one reads format 1");
            assert!(error.contains(&expected) && error.contains(path.to_str().unwrap()), "{error}");
            journal.write(vec![put(1_000, 10)]);
            assert!(!told.taken(1_000), "nothing is acknowledged");
            journal.close();
            assert!(fs::read(&path).unwrap() == other, "format {format}: the file was changed");
            assert_eq!(files(directory.path()), before, "format {format}");

            // The version that wrote it goes on.
            fs::write(&path, in_format(&other, 1)).unwrap();
            let told = Told::new();
            let journal = Journal::start(directory.path(), told.clone()).unwrap();
            assert_eq!(told.jobs(), (1..=30).map(|id| job(id, 300)).collect::<Vec<_>>());
            assert_eq!(told.wait("it is open", |state| Some(state.damage.clone())), None);
            journal.close();
        }
    }
}
