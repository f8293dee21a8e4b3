//! Whether the endpoints answered the same: what is kept of each answer to tell, and which answers differ from most.
//!
//! Nothing of a body is held for that but where something in it may differ, which takes all of it, or where the report shows the
//! start of it. That counts like every held byte; where there is no room for it, the answer is not compared.

use std::{collections::HashMap, sync::Arc};

use sha2::{Digest as _, Sha256};

use super::{Exchange, Leg};
use crate::{
    config::{Compare, Ignore, Policy},
    grpc::Code,
};

/// The most of one body that a report shows.
pub const MAX_EXCERPT_BYTES: usize = 64 * 1024;

/// The most of all bodies together that a report shows.
const MAX_EXCERPTS_BYTES: usize = 4 << 20;

type Hash = [u8; 32];

/// What is kept of the body of each answer.
#[derive(Debug, Default)]
pub(super) struct Keeping {
    /// Whether bodies are compared.
    compares: bool,
    /// What may differ in them.
    ignore: Option<Arc<Ignore>>,
    /// How much of the start of each is kept for the report.
    excerpt: usize,
    /// Whether there is room for more, over all requests.
    pub(super) has_room: bool,
}

/// What is kept of the body of one answer.
#[derive(Debug)]
pub(super) struct Kept {
    hashing: Hashing,
    /// Its start.
    bytes: Vec<u8>,
    /// How much of it has come.
    received: usize,
    /// There was no room for more of it.
    is_cut: bool,
    excerpt: usize,
}

#[derive(Debug)]
enum Hashing {
    /// It is not compared, or cannot be.
    Off,
    /// As it comes.
    Running(Sha256),
    /// Once it is there, without what may differ.
    Waiting(Arc<Ignore>),
    Done(Hash),
}

/// An answer, as far as it is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Answer {
    status: u16,
    code: Option<Code>,
    body: Option<Hash>,
}

/// How the answers of a request compare.
#[derive(Clone, Copy, Debug)]
pub struct Comparison {
    compare: Compare,
    /// What most endpoints answered: of several answers that are as frequent, that of the lowest leg.
    most: Option<Answer>,
    /// How many legs answered something else.
    pub divergent: usize,
}

/// The start of a body.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<'a> {
    /// What there is of it.
    pub bytes: &'a [u8],
    /// Whether there was more.
    pub is_truncated: bool,
}

// === impl Keeping ===

impl Keeping {
    /// What a request keeps that goes to so many endpoints, and of whose answers the report shows `excerpt` bytes.
    pub(super) fn new(policy: &Policy, excerpt: usize, legs: usize) -> Self {
        let compares = policy.compare == Compare::Body;
        Self {
            compares,
            ignore: policy.compare_ignore.clone().filter(|_| compares),
            excerpt: excerpt.min(MAX_EXCERPT_BYTES).min(MAX_EXCERPTS_BYTES / legs.max(1)),
            has_room: true,
        }
    }

    /// Whether anything is kept.
    pub(super) fn is_on(&self) -> bool {
        self.compares || self.excerpt > 0
    }

    /// The state for one leg; none where nothing is kept.
    pub(super) fn begin(&self) -> Option<Box<Kept>> {
        let hashing = match &self.ignore {
            _ if !self.compares => Hashing::Off,
            Some(ignore) => Hashing::Waiting(ignore.clone()),
            None => Hashing::Running(Sha256::new()),
        };
        let kept = Kept { hashing, bytes: Vec::new(), received: 0, is_cut: false, excerpt: self.excerpt };
        self.is_on().then(|| Box::new(kept))
    }
}

// === impl Kept ===

impl Kept {
    /// The next piece of the body has come.
    pub(super) fn take(&mut self, piece: &[u8], has_room: bool) {
        let compared = &piece[..piece.len().min(Compare::MAX_BODY.saturating_sub(self.received))];
        if let Hashing::Running(hash) = &mut self.hashing {
            hash.update(compared);
        }
        let wanted = if matches!(self.hashing, Hashing::Waiting(_)) { Compare::MAX_BODY } else { self.excerpt };
        let missing = wanted.saturating_sub(self.bytes.len()).min(piece.len());
        if missing > 0 && !self.is_cut {
            if has_room {
                self.bytes.extend_from_slice(&piece[..missing]);
            } else {
                self.give_up();
            }
        }
        self.received += piece.len();
        if self.received >= Compare::MAX_BODY {
            self.settle();
        }
    }

    /// The body is complete.
    pub(super) fn end(&mut self) {
        self.settle();
    }

    fn give_up(&mut self) {
        self.is_cut = true;
        if matches!(self.hashing, Hashing::Waiting(_)) {
            self.hashing = Hashing::Off;
        }
        self.keep_excerpt();
    }

    /// All of the body that is compared is there.
    fn settle(&mut self) {
        self.hashing = match std::mem::replace(&mut self.hashing, Hashing::Off) {
            Hashing::Running(hash) => Hashing::Done(hash.finalize().into()),
            Hashing::Waiting(ignore) => {
                let hash = Sha256::digest(ignore.apply(&self.bytes)).into();
                self.keep_excerpt();
                Hashing::Done(hash)
            }
            settled => settled,
        };
    }

    fn keep_excerpt(&mut self) {
        self.bytes.truncate(self.excerpt);
        self.bytes.shrink_to_fit();
    }

    /// What it costs in memory.
    pub(super) fn cost(&self) -> usize {
        self.bytes.capacity()
    }

    /// The start of the body; none where it is not shown.
    pub(super) fn excerpt(&self) -> Option<Excerpt<'_>> {
        let bytes = &self.bytes[..self.bytes.len().min(self.excerpt)];
        (self.excerpt > 0).then_some(Excerpt { bytes, is_truncated: self.received > bytes.len() })
    }

    fn hash(&self) -> Option<Hash> {
        match self.hashing {
            Hashing::Done(hash) => Some(hash),
            _ => None,
        }
    }
}

// === impl Answer ===

impl Answer {
    /// What a leg has answered; none where it has not, or not all that is compared.
    fn of(leg: &Leg, compare: Compare) -> Option<Self> {
        let status = leg.response()?.status;
        if leg.result().is_some_and(|result| result.error.is_some()) {
            return None;
        }
        let body = match compare {
            Compare::Off => return None,
            Compare::Status => None,
            Compare::Body => Some(leg.kept()?.hash()?),
        };
        Some(Self { status, code: leg.code(), body })
    }

    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.status.to_be_bytes());
        // Whatever is not there cannot be mistaken for a status, or for the hash of a body.
        hash.update(self.code.map_or([0, 0], |code| [1, code]));
        hash.update(self.body.as_ref().map_or(&[][..], |body| &body[..]));
        format!("sha256:{:x}", hash.finalize())
    }
}

// === impl Comparison ===

impl Comparison {
    fn new(legs: &[Leg], compare: Compare) -> Self {
        let answers = || legs.iter().filter_map(|leg| Answer::of(leg, compare));
        let first = answers().next();
        // Mostly all are the same.
        if answers().all(|answer| Some(answer) == first) {
            return Self { compare, most: first, divergent: 0 };
        }
        let mut counts = HashMap::<Answer, (usize, usize)>::new();
        for (position, answer) in answers().enumerate() {
            counts.entry(answer).or_insert((0, position)).0 += 1;
        }
        let total: usize = counts.values().map(|(count, _)| count).sum();
        let most = counts.iter().max_by_key(|(_, (count, first))| (*count, std::cmp::Reverse(*first)));
        let divergent = most.map_or(0, |(_, (count, _))| total - count);
        Self { compare, most: most.map(|(answer, _)| *answer), divergent }
    }

    /// What stands for the answer of a leg: the same for answers that are the same, as far as they are compared.
    #[must_use]
    pub fn digest(&self, leg: &Leg) -> Option<String> {
        Answer::of(leg, self.compare).map(|answer| answer.digest())
    }

    /// Whether the leg answered something else than most.
    #[must_use]
    pub fn diverges(&self, leg: &Leg) -> bool {
        self.divergent > 0 && Answer::of(leg, self.compare).is_some_and(|answer| Some(answer) != self.most)
    }
}

// === impl Exchange ===

impl Exchange {
    /// How the answers compare, as far as they are there; none where they are not compared.
    #[must_use]
    pub fn comparison(&self) -> Option<Comparison> {
        let compare = self.route().config.policy.compare;
        (compare != Compare::Off).then(|| Comparison::new(&self.legs, compare))
    }

    /// The answer is about to go out: what it says of answers that differ is what is known by now.
    pub fn count_divergent(&mut self) {
        self.quorum.divergent = self.comparison().map_or(0, |comparison| comparison.divergent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeping(ignore: &[&str], excerpt: usize) -> Keeping {
        let ignore: Ignore = ignore.iter().map(|text| text.parse().unwrap()).collect();
        let compare_ignore = (ignore != Ignore::default()).then(|| Arc::new(ignore));
        let policy = Policy { compare: Compare::Body, compare_ignore, ..Policy::default() };
        Keeping::new(&policy, excerpt, 3)
    }

    fn kept(keeping: &Keeping, body: &[u8], piece: usize) -> Box<Kept> {
        let mut kept = keeping.begin().unwrap();
        body.chunks(piece).for_each(|piece| kept.take(piece, true));
        kept.end();
        kept
    }

    #[test]
    fn a_hash_is_of_the_first_bytes_whatever_the_pieces() {
        let body: Vec<u8> = (0..Compare::MAX_BODY + 5).map(|n| (n % 251) as u8).collect();
        for keeping in [keeping(&[], 0), keeping(&["nothing like this"], 10)] {
            let hash = kept(&keeping, &body, body.len()).hash();
            assert!(hash.is_some());
            assert_eq!(kept(&keeping, &body, 1000).hash(), hash);
            assert_eq!(kept(&keeping, &body[..Compare::MAX_BODY], 7).hash(), hash, "the rest is not compared");
            assert_ne!(kept(&keeping, &body[..Compare::MAX_BODY - 1], 7).hash(), hash);
        }
        let nothing = Keeping::new(&Policy::default(), 0, 3);
        assert!(!nothing.is_on() && nothing.begin().is_none());
    }

    #[test]
    fn only_what_may_be_needed_is_held() {
        let body = vec![b'x'; 3000];
        assert_eq!(kept(&keeping(&[], 0), &body, 100).cost(), 0, "a hash needs no body");
        let shown = kept(&keeping(&["y"], 100), &body, 100);
        assert!(shown.cost() < 200, "what may differ has been left out: {}", shown.cost());
        let excerpt = shown.excerpt().unwrap();
        assert_eq!((excerpt.bytes, excerpt.is_truncated), (&body[..100], true));
        let whole = kept(&keeping(&[], 4096), &body, 100);
        assert!(!whole.excerpt().unwrap().is_truncated);
        let many = Keeping::new(&Policy::default(), usize::MAX, 1000);
        assert_eq!(many.excerpt, MAX_EXCERPTS_BYTES / 1000, "a report has a bound, however many endpoints there are");
    }

    #[test]
    fn where_there_is_no_room_nothing_is_compared_that_would_have_to_be_held() {
        for (ignore, is_compared) in [(&[][..], true), (&["x"][..], false)] {
            let mut kept = keeping(ignore, 100).begin().unwrap();
            kept.take(b"abc", true);
            kept.take(b"def", false);
            kept.take(b"ghi", true);
            kept.end();
            assert_eq!(kept.hash().is_some(), is_compared);
            let excerpt = kept.excerpt().unwrap();
            assert_eq!((excerpt.bytes, excerpt.is_truncated), (&b"abc"[..], true));
        }
    }
}
