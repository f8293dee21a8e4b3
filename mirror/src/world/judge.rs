//! Which mirrors may be deleted although no watch has reported the deletion of their Services.

use std::time::Instant;

use controlplane::index::ServiceKey;

use super::{Dirty, NameOwner, World};
use crate::{
    config::MaxDelete,
    live::{Live, Ownership, noted_origin},
    stale::Verdict,
};

/// What is known about the Service of a mirror that nobody claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    /// Too little, because there is no complete list of its namespace.
    Unknown,
    /// It does not exist.
    Missing,
    /// Its remote is lost, and its mirrors are to be deleted.
    Lost,
    /// Its remote is lost, and its mirrors are to stay without a ready endpoint.
    Dimmed,
}

impl World {
    /// The owner of a local name that nobody claims: the remote of the mirror, if it is one.
    pub(super) fn whose(&self, key: &ServiceKey, live: &Live) -> Option<NameOwner> {
        self.owners(&key.namespace).find(|whose| {
            let owner = self.owner(*whose);
            match &live.service {
                Some(service) => matches!(owner.owns(&service.object), Ownership::Ours | Ownership::Adoptable),
                None => live.slices.values().any(|slice| slice.is_ours(owner.prefix)),
            }
        })
    }

    /// Those who may own Services in a local namespace.
    pub(super) fn owners(&self, namespace: &str) -> impl Iterator<Item = NameOwner> {
        let remotes = self.config.remotes.iter().enumerate();
        let remotes = remotes.filter(move |(_, config)| *config.namespace == *namespace);
        let global = self.config.global.iter().filter(move |global| *global.namespace == *namespace);
        remotes.map(|(number, _)| NameOwner::Remote(number)).chain(global.map(|_| NameOwner::Global))
    }

    /// What is known about the Service of a mirror that nobody claims.
    pub(super) fn absence(&self, whose: NameOwner, live: &Live) -> Absence {
        let NameOwner::Remote(number) = whose else {
            let known = self.remotes.iter().all(|remote| remote.scopes.iter().all(|scope| scope.services));
            return if known { Absence::Missing } else { Absence::Unknown };
        };
        let state = &self.remotes[number];
        let origin = live.service.as_ref().and_then(|service| noted_origin(&service.object));
        let scopes: Vec<_> = match &origin {
            // A namespace that is no longer watched has no mirrors, which needs no list.
            Some(origin) => state.scope(&origin.namespace).into_iter().collect(),
            None => state.scopes.iter().collect(),
        };
        let verdict = |verdict| !scopes.is_empty() && scopes.iter().all(|scope| scope.verdict == verdict);
        if verdict(Verdict::Gone) {
            return Absence::Lost;
        }
        if !scopes.iter().all(|scope| scope.services) {
            return if verdict(Verdict::NotReady) { Absence::Dimmed } else { Absence::Unknown };
        }
        // While the remote's identity is unknown, its list proves nothing.
        if matches!(state.identity, super::Identity::Pending) { Absence::Unknown } else { Absence::Missing }
    }

    /// Judges the mirrors whose Services are missing from complete lists. Returns those for which the result has changed.
    pub(crate) fn judge(&mut self, now: Instant) -> Dirty {
        let mut dirty = Dirty::new();
        self.confirm_slices(now, &mut dirty);
        if !std::mem::take(&mut self.judge_due) && !self.confirmation_due(now) {
            return dirty;
        }
        let count = self.remotes.len();
        let global = self.config.global.is_some().then_some(NameOwner::Global);
        let mut totals = vec![0; count + 1];
        let mut orphans: Vec<Vec<ServiceKey>> = vec![Vec::new(); count + 1];
        for (key, live) in &self.live {
            let known = live.service.is_some() && self.knows_local(&key.namespace);
            let Some(whose) = self.whose(key, live).filter(|_| known) else { continue };
            let place = if let NameOwner::Remote(number) = whose { number } else { count };
            totals[place] += 1;
            let wanted = self.claims.contains_key(key) || self.permits.contains(key);
            if !wanted && self.absence(whose, live) == Absence::Missing && self.may_miss(whose, live) {
                orphans[place].push(key.clone());
            }
        }
        for (place, orphans) in orphans.into_iter().enumerate() {
            let whose = if place < count { Some(NameOwner::Remote(place)) } else { global };
            let Some(whose) = whose else { continue };
            let permitted = self.limit(whose).permits(orphans.len(), totals[place]);
            for key in orphans {
                let since = *self.held.entry(key.clone()).or_insert(now);
                let confirmed = self.confirm_after(whose).is_some_and(|after| now.duration_since(since) >= after);
                if permitted || confirmed {
                    self.held.remove(&key);
                    self.permits.insert(key.clone());
                }
                dirty.insert(key);
            }
        }
        dirty
    }

    /// Whether a missing Service counts: with `sync: false` only one that this process has seen.
    fn may_miss(&self, whose: NameOwner, live: &Live) -> bool {
        match whose {
            NameOwner::Global => self.config.remotes.iter().all(|remote| remote.sync),
            NameOwner::Remote(number) if self.config.remotes[number].sync => true,
            NameOwner::Remote(number) => {
                let origin = live.service.as_ref().and_then(|service| noted_origin(&service.object));
                origin.is_some_and(|origin| self.remotes[number].seen.contains(&origin))
            }
        }
    }

    /// The limit of deletions. Global Services have no limit of their own and use the first remote's.
    fn limit(&self, whose: NameOwner) -> MaxDelete {
        let number = if let NameOwner::Remote(number) = whose { number } else { 0 };
        self.config.remotes.get(number).map(|remote| remote.max_delete).unwrap_or_default()
    }

    fn confirm_after(&self, whose: NameOwner) -> Option<std::time::Duration> {
        let number = if let NameOwner::Remote(number) = whose { number } else { 0 };
        self.config.remotes.get(number)?.confirm_after
    }

    /// Whether a deletion has been held back for long enough.
    fn confirmation_due(&self, now: Instant) -> bool {
        let shortest = self.config.remotes.iter().filter_map(|remote| remote.confirm_after).min();
        let Some(shortest) = shortest else { return false };
        self.held.values().any(|since| now.duration_since(*since) >= shortest)
    }

    /// Drops slices that were kept although a list lacked them.
    fn confirm_slices(&mut self, now: Instant, dirty: &mut Dirty) {
        for number in 0..self.remotes.len() {
            let after = self.config.remotes[number].confirm_after;
            let Some(until) = after.and_then(|after| now.checked_sub(after)) else { continue };
            if self.remotes[number].index.emptied() == 0 {
                continue;
            }
            for service in self.remotes[number].index.confirm_emptied(until) {
                dirty.extend(self.locals(number, &service));
            }
        }
    }
}
