//! Bytes on their way out: what is short is put together, what is long is sent from where it is.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf as _, Bytes};

/// The longest data that is copied, because one buffer is written faster than several.
const MAX_COPIED: usize = 2 * 1024;

/// How much memory an empty outbox keeps.
const KEPT_BYTES: usize = 16 * 1024;

/// How much of what was sent may stand in front of what was not.
const MAX_SENT_BYTES: usize = 64 * 1024;

/// Bytes that are to be sent, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Headers of frames, fields, and short data.
    short: Vec<u8>,
    /// How much of that was sent.
    short_sent: usize,
    /// Long data, and in front of which byte of the short ones it belongs.
    long: VecDeque<(usize, Bytes)>,
    /// Bytes that have been put in, ever.
    put: u64,
    /// Bytes that have been sent, ever.
    sent: u64,
}

impl Outbox {
    /// Appends what `write` writes.
    pub(crate) fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let before = self.short.len();
        write(&mut self.short);
        self.put += (self.short.len() - before) as u64;
    }

    /// Appends data.
    pub(crate) fn put_data(&mut self, data: Bytes) {
        self.put += data.len() as u64;
        if data.len() <= MAX_COPIED {
            self.short.extend_from_slice(&data);
        } else {
            self.long.push_back((self.short.len(), data));
        }
    }

    /// Bytes that have been put in, ever.
    pub(crate) fn end(&self) -> u64 {
        self.put
    }

    /// Bytes that have been sent, ever.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        (self.put - self.sent) as usize
    }

    /// Fills the slices with the next bytes; returns how many are filled.
    pub(crate) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let (mut from, mut used) = (self.short_sent, 0);
        let mut add = |bytes: &'a [u8]| {
            if !bytes.is_empty()
                && let Some(slot) = slices.get_mut(used)
            {
                *slot = IoSlice::new(bytes);
                used += 1;
            }
        };
        for (at, data) in &self.long {
            add(&self.short[from..*at]);
            add(data);
            from = *at;
        }
        add(&self.short[from..]);
        used
    }

    /// So many bytes have been sent.
    pub(crate) fn advance(&mut self, mut sent: usize) {
        self.sent += sent as u64;
        while sent > 0 {
            let until = self.long.front().map_or(self.short.len(), |(at, _)| *at);
            let of_short = sent.min(until - self.short_sent);
            (self.short_sent, sent) = (self.short_sent + of_short, sent - of_short);
            let Some((_, data)) = self.long.front_mut() else { break };
            if sent < data.len() {
                data.advance(sent);
                break;
            }
            sent -= data.len();
            self.long.pop_front();
        }
        self.tidy();
    }

    /// Gives back memory that is not needed.
    fn tidy(&mut self) {
        if self.put == self.sent {
            self.short.clear();
            self.short.shrink_to(KEPT_BYTES);
            self.short_sent = 0;
        } else if self.short_sent > MAX_SENT_BYTES {
            self.short.drain(..self.short_sent);
            self.long.iter_mut().for_each(|(at, _)| *at -= self.short_sent);
            self.short_sent = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_order_however_they_are_cut() {
        for step in [1, 7, 100, 5_000, 1 << 20] {
            let (mut outbox, mut want, mut got) = (Outbox::default(), Vec::new(), Vec::new());
            for round in 0..200_usize {
                let short = vec![round as u8; round % 11];
                let data = vec![!(round as u8); [0, 3, 2_048, 2_049, 10_000][round % 5]];
                outbox.put(|out| out.extend_from_slice(&short));
                outbox.put_data(data.clone().into());
                want.extend(short.into_iter().chain(data));
                // Only some of it, so that something always waits.
                for _ in 0..round % 3 {
                    take(&mut outbox, step, &mut got);
                }
            }
            while outbox.len() > 0 {
                take(&mut outbox, step, &mut got);
            }
            assert!(got == want, "in pieces of {step}");
            assert_eq!((outbox.sent(), outbox.short.len(), outbox.short_sent), (want.len() as u64, 0, 0));
        }
    }

    fn take(outbox: &mut Outbox, step: usize, got: &mut Vec<u8>) {
        let mut slices = [IoSlice::new(&[]); 3];
        let used = outbox.fill(&mut slices);
        let before = got.len();
        got.extend(slices[..used].iter().flat_map(|slice| slice.iter().copied()).take(step));
        let step = got.len() - before;
        outbox.advance(step);
    }
}
