//! What was asked and what endpoints got, and whether the one follows from the other.

use std::collections::BTreeMap;

/// A request, by its writer and its place among the writer's requests, which come one after the other.
pub(super) type Key = (usize, usize);

/// What a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// With a body: each must arrive.
    Put,
    /// Without one: a later one of the same writer may stand for it, unless a `Put` comes between.
    Purge,
}

/// A request that was sent.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) kind: Kind,
    /// The id that it had; none: Fanfare gives it one.
    pub(super) id: Option<String>,
    /// Whether its answer said that all have it or get it.
    pub(super) acknowledged: bool,
}

/// A copy that an endpoint got, whole.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) key: Key,
    pub(super) kind: Kind,
    pub(super) id: String,
    /// How often Fanfare had been killed before.
    pub(super) life: u32,
    /// Whether the endpoint took it.
    pub(super) taken: bool,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct History {
    /// By writer.
    pub(super) asked: Vec<Vec<Asked>>,
    /// By endpoint, in order of arrival.
    pub(super) seen: Vec<Vec<Seen>>,
}

impl History {
    /// Everything that must not be.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut ids: BTreeMap<Key, &str> = BTreeMap::new();
        for (endpoint, seen) in self.seen.iter().enumerate() {
            for copy in seen {
                let Some(asked) = self.request(copy.key).filter(|asked| asked.kind == copy.kind) else {
                    faults.push(format!("endpoint {endpoint} got {copy:?}, which was never asked"));
                    continue;
                };
                let id = ids.entry(copy.key).or_insert(asked.id.as_deref().unwrap_or(&copy.id));
                if *id != copy.id {
                    faults.push(format!("endpoint {endpoint} got {copy:?}, whose id elsewhere is {id}"));
                }
            }
            for writer in 0..self.asked.len() {
                let copies: Vec<&Seen> = seen.iter().filter(|copy| copy.key.0 == writer).collect();
                faults.extend(self.lost(writer, &copies).map(|fault| format!("endpoint {endpoint}: {fault}")));
                faults.extend(
                    disorder(&self.asked[writer], &copies)
                        .into_iter()
                        .map(|fault| format!("endpoint {endpoint}: {fault}")),
                );
            }
        }
        faults
    }

    fn request(&self, (writer, number): Key) -> Option<&Asked> {
        self.asked.get(writer)?.get(number)
    }

    /// Acknowledged requests that an endpoint never took, and that nothing it took stands for.
    fn lost(&self, writer: usize, copies: &[&Seen]) -> impl Iterator<Item = String> {
        let asked = &self.asked[writer];
        let mut taken = vec![false; asked.len()];
        copies.iter().filter(|copy| copy.taken).for_each(|copy| {
            if let Some(taken) = taken.get_mut(copy.key.1) {
                *taken = true;
            }
        });
        let has = move |number: usize| {
            if taken[number] || asked[number].kind == Kind::Put {
                return taken[number];
            }
            let later = (number + 1..asked.len())
                .take_while(|later| asked[*later].kind == Kind::Purge || !asked[*later].acknowledged);
            later.into_iter().any(|later| asked[later].kind == Kind::Purge && taken[later])
        };
        let acknowledged = asked.iter().enumerate().filter(|(_, asked)| asked.acknowledged);
        acknowledged
            .filter(move |(number, _)| !has(*number))
            .map(move |(number, asked)| format!("acknowledged and lost: {:?} {number} of writer {writer}", asked.kind))
    }
}

/// Copies of one writer's requests that come out of order: only after a kill may an endpoint get what it has had before, and
/// then all of that in its order. A purge that it has had need not come again where a later one comes that stands for it.
fn disorder(asked: &[Asked], copies: &[&Seen]) -> Vec<String> {
    let mut faults = Vec::new();
    for pair in copies.windows(2) {
        if pair[1].key < pair[0].key && pair[1].life == pair[0].life {
            faults.push(format!("{:?} came behind {:?} without a kill between them", pair[1], pair[0]));
        }
    }
    let mut first = BTreeMap::new();
    let mut last = BTreeMap::new();
    for (place, copy) in copies.iter().enumerate().filter(|(_, copy)| copy.taken) {
        first.entry(copy.key).or_insert(place);
        last.insert(copy.key, place);
    }
    let stood_for = |purge: &Seen, after: usize| {
        let only_purges = |upto: usize| {
            let between = asked.get(purge.key.1 + 1..upto).unwrap_or_default();
            between.iter().all(|one| one.kind == Kind::Purge || !one.acknowledged)
        };
        let stands = |copy: &&Seen| copy.taken && copy.kind == Kind::Purge && copy.key > purge.key;
        let later = copies[after..].iter().copied().filter(stands).collect::<Vec<_>>();
        purge.kind == Kind::Purge && later.iter().any(|copy| only_purges(copy.key.1))
    };
    for (what, places) in [("first", first), ("last", last)] {
        let places: Vec<usize> = places.into_values().collect();
        for (index, at) in places.iter().enumerate() {
            let mut behind = places[index + 1..].iter().filter(|other| *other < at);
            if let Some(other) = behind.find(|other| what == "first" || !stood_for(copies[**other], *at)) {
                let (one, two) = (copies[*at], copies[*other]);
                faults.push(format!("the {what} copy of {one:?} came behind the {what} one of {two:?}"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(asked: &[(Kind, bool)], seen: &[(usize, u32, bool)]) -> History {
        let id = |number: usize| format!("id-{number}");
        let asked =
            asked.iter().map(|(kind, acknowledged)| Asked { kind: *kind, id: None, acknowledged: *acknowledged });
        let asked: Vec<Asked> = asked.collect();
        let seen = seen.iter().map(|(number, life, taken)| {
            let kind = asked.get(*number).map_or(Kind::Put, |asked| asked.kind);
            Seen { key: (0, *number), kind, id: id(*number), life: *life, taken: *taken }
        });
        History { seen: vec![seen.collect()], asked: vec![asked] }
    }

    const PUT: (Kind, bool) = (Kind::Put, true);
    const PURGE: (Kind, bool) = (Kind::Purge, true);
    const UNANSWERED: (Kind, bool) = (Kind::Put, false);

    #[test]
    fn a_history_that_keeps_the_guarantees_has_no_fault() {
        for (asked, seen) in [
            (&[PUT, PUT][..], &[(0, 0, false), (0, 0, true), (1, 0, true)][..]),
            (&[PUT, PUT], &[(0, 0, true), (1, 0, true), (0, 1, true), (1, 1, true)]),
            (&[UNANSWERED, PUT], &[(1, 0, true)]),
            (&[PURGE, PURGE, UNANSWERED, PURGE], &[(3, 0, true)]),
            // After a kill both of the first two are sent again, and the third one stands for the second.
            (&[PUT, PURGE, PURGE], &[(0, 0, true), (1, 0, true), (0, 1, true), (2, 1, true)]),
        ] {
            assert_eq!(history(asked, seen).faults(), Vec::<String>::new(), "{asked:?} {seen:?}");
        }
    }

    #[test]
    fn each_kind_of_fault_is_found() {
        for (asked, seen, fault) in [
            (&[PUT][..], &[][..], "acknowledged and lost: Put 0"),
            (&[PUT], &[(0, 0, false)], "acknowledged and lost: Put 0"),
            (&[PURGE, PUT, PURGE], &[(1, 0, true), (2, 0, true)], "acknowledged and lost: Purge 0"),
            (&[PUT], &[(0, 0, true), (1, 0, true)], "never asked"),
            (&[PUT, PUT], &[(1, 0, true), (0, 0, true)], "without a kill"),
            (&[PUT, PUT], &[(1, 0, true), (0, 1, true)], "the first copy of"),
            (&[PUT, PUT], &[(0, 0, true), (1, 0, true), (0, 1, true)], "the last copy of"),
            (&[PUT, PURGE], &[(0, 0, true), (1, 0, true), (0, 1, true)], "the last copy of"),
            (
                &[PUT, PURGE, PUT, PURGE],
                &[(0, 0, true), (1, 0, true), (0, 1, true), (2, 1, true), (3, 1, true)],
                "the last copy of",
            ),
        ] {
            let faults = history(asked, seen).faults();
            assert!(faults.iter().any(|it| it.contains(fault)), "{asked:?} {seen:?}: {faults:?}");
        }
        let mut other = history(&[PUT], &[(0, 0, true), (0, 0, true)]);
        other.seen[0][1].id = "another".to_owned();
        assert!(other.faults()[0].contains("whose id elsewhere is id-0"), "{:?}", other.faults());
    }
}
