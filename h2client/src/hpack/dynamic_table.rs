//! The dynamic table of a decoder (RFC 7541 section 2.3.2).

use std::collections::VecDeque;

/// What each entry counts besides its bytes (RFC 7541 section 4.1).
const ENTRY_OVERHEAD: usize = 32;

/// Fields that the peer may refer to.
#[derive(Debug)]
pub(super) struct DynamicTable {
    /// The newest one first.
    entries: VecDeque<Entry>,
    size: usize,
    max_size: usize,
    /// How often it has changed.
    changes: u64,
}

#[derive(Debug)]
struct Entry {
    /// The name, and the value behind it.
    bytes: Box<[u8]>,
    name: usize,
}

impl Entry {
    fn size(&self) -> usize {
        self.bytes.len() + ENTRY_OVERHEAD
    }
}

impl DynamicTable {
    pub(super) fn new(max_size: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, max_size, changes: 0 }
    }

    /// Name and value of the entry at this place; the newest one is at 0.
    pub(super) fn get(&self, place: usize) -> Option<(&[u8], &[u8])> {
        self.entries.get(place).map(|entry| entry.bytes.split_at(entry.name))
    }

    /// How often it has changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Makes room for an entry, and puts it in front. One that has no room leaves the table empty (section 4.4).
    pub(super) fn insert(&mut self, name: &[u8], value: &[u8]) {
        self.changes += 1;
        let size = name.len() + value.len() + ENTRY_OVERHEAD;
        self.evict(self.max_size.saturating_sub(size));
        if size <= self.max_size {
            self.size += size;
            self.entries.push_front(Entry { bytes: [name, value].concat().into(), name: name.len() });
        }
    }

    /// Changes how large it may be.
    pub(super) fn resize(&mut self, max_size: usize) {
        self.changes += 1;
        self.max_size = max_size;
        self.evict(max_size);
    }

    /// Drops the oldest entries until no more is left than this.
    fn evict(&mut self, most: usize) {
        while self.size > most
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size();
        }
    }
}
