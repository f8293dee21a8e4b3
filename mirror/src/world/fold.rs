//! Folds events of the watches and answers to writes into the known state.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use controlplane::{
    index::ServiceKey,
    watch::{Event, ObjectKey, vanished},
};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};

use super::{Claim, Dirty, Identity, Listed, Observation, World};
use crate::{
    index::Origin,
    live::{Live, LiveService, LiveSlice, Version},
    marks,
};

impl Observation {
    /// See [`LiveService::settled`].
    fn settled(self) -> Option<u64> {
        match self {
            Self::Answered(wanted) => Some(wanted),
            Self::Told | Self::Seen => None,
        }
    }

    /// Whether a version adds nothing to the known one.
    fn is_no_news(self, new: &Version, known: &Version) -> bool {
        match self {
            Self::Told => new == known || new.is_older_than(known),
            Self::Seen => new == known,
            Self::Answered(_) => new.is_older_than(known),
        }
    }
}

impl World {
    /// Folds in an event of a remote's Services.
    pub(crate) fn remote_service(&mut self, remote: usize, scope: usize, event: Event<Service>) -> Dirty {
        let mut dirty = Dirty::new();
        let state = &mut self.remotes[remote];
        state.on_event(matches!(event, Event::Reset { .. }) && state.scopes[scope].services);
        match event {
            Event::Apply(service) => {
                if let Some((old, new)) = self.remotes[remote].index.apply_service(service) {
                    self.changed(remote, old.as_deref(), Some(&new), true, &mut dirty);
                }
            }
            Event::Delete(key) => {
                if let Some(old) = self.remotes[remote].index.delete_service(&key) {
                    self.changed(remote, Some(&old), None, true, &mut dirty);
                }
            }
            Event::Reset { objects, unreadable } => {
                let namespace = self.remotes[remote].scopes[scope].namespace.clone();
                let before: HashMap<ServiceKey, Arc<Origin>> =
                    self.remotes[remote].index.services().map(|origin| (origin.key.clone(), origin.clone())).collect();
                let relisted = self.remotes[remote].index.reset_services(namespace.as_deref(), objects, &unreadable);
                let first = !std::mem::replace(&mut self.remotes[remote].scopes[scope].services, true);
                for old in &relisted.vanished {
                    self.changed(remote, Some(old), None, false, &mut dirty);
                }
                for key in &relisted.touched {
                    let Some(new) = self.remotes[remote].index.service(key).cloned() else { continue };
                    let old = before.get(key).map(|origin| &**origin);
                    self.changed(remote, old, Some(&new), true, &mut dirty);
                }
                self.judge_due = true;
                if first {
                    // Names that waited for this list can be decided now.
                    dirty.extend(self.names());
                }
            }
        }
        dirty
    }

    /// Folds in an event of a remote's slices.
    pub(crate) fn remote_slice(
        &mut self,
        remote: usize,
        scope: usize,
        event: Event<EndpointSlice>,
        now: Instant,
    ) -> Dirty {
        let limit = self.config.remotes[remote].max_delete;
        let state = &mut self.remotes[remote];
        state.on_event(matches!(event, Event::Reset { .. }) && state.scopes[scope].slices);
        let (touched, first): (Vec<ServiceKey>, bool) = match event {
            Event::Apply(slice) => (state.index.apply_slice(&slice), false),
            Event::Delete(key) => (state.index.delete_slice(&key).into_iter().collect(), false),
            Event::Reset { objects, unreadable } => {
                let namespace = state.scopes[scope].namespace.clone();
                let touched = state.index.reset_slices(namespace.as_deref(), &objects, &unreadable, limit, now);
                let first = !std::mem::replace(&mut state.scopes[scope].slices, true);
                (touched.into_iter().collect(), first)
            }
        };
        if first {
            return self.names();
        }
        touched.iter().flat_map(|service| self.locals(remote, service)).collect()
    }

    /// Sets which cluster a remote is, or why that is unknown.
    pub(crate) fn identified(&mut self, remote: usize, identity: Identity) -> Dirty {
        self.remotes[remote].suspect &= identity == Identity::Pending;
        if self.remotes[remote].identity == identity {
            return Dirty::new();
        }
        self.remotes[remote].identity = identity;
        self.judge_due = true;
        self.names()
    }

    /// Notes that a remote is unavailable. What is known of it is kept; its identity is checked before later events are believed.
    pub(crate) fn suspect(&mut self, remote: usize) {
        self.remotes[remote].suspect = true;
    }

    /// Sets how long one scope of a remote has been unavailable; `None`: it is available.
    pub(crate) fn away(&mut self, remote: usize, scope: usize, away: Option<Duration>) -> Dirty {
        let news = self.remotes[remote].judge(scope, &self.config.remotes[remote], away);
        if news { self.names() } else { Dirty::new() }
    }

    /// Folds in an event of a local namespace's Services.
    pub(crate) fn local_service(&mut self, namespace: &str, event: Event<Service>) -> Dirty {
        let mut dirty = Dirty::new();
        match event {
            Event::Apply(service) => dirty.extend(self.put_service(service, Observation::Told)),
            Event::Delete(key) => dirty.extend(self.drop_service(&ServiceKey::from(&key))),
            Event::Reset { objects, unreadable } => {
                let within = self.live.keys().filter(|key| *key.namespace == *namespace);
                let gone = vanished(within, &objects, &unreadable);
                for service in objects {
                    dirty.extend(self.put_service(service, Observation::Seen));
                }
                for key in gone {
                    dirty.extend(self.drop_service(&key));
                }
                self.local_listed(namespace, |listed| listed.services = true, &mut dirty);
            }
        }
        dirty
    }

    /// Folds in an event of a local namespace's slices.
    pub(crate) fn local_slice(&mut self, namespace: &str, event: Event<EndpointSlice>) -> Dirty {
        let mut dirty = Dirty::new();
        match event {
            Event::Apply(slice) => dirty.extend(self.put_slice(&slice, Observation::Told)),
            Event::Delete(key) => dirty.extend(self.drop_slice(&key)),
            Event::Reset { objects, unreadable } => {
                let within = self.homes.keys().filter(|key| **key.namespace() == *namespace);
                let gone = vanished(within, &objects, &unreadable);
                for slice in &objects {
                    dirty.extend(self.put_slice(slice, Observation::Seen));
                }
                for key in gone {
                    dirty.extend(self.drop_slice(&key));
                }
                self.local_listed(namespace, |listed| listed.slices = true, &mut dirty);
            }
        }
        dirty
    }

    /// Sets a local Service. Returns its name, if that is a change.
    pub(crate) fn put_service(&mut self, service: Service, how: Observation) -> Option<ServiceKey> {
        let key = ServiceKey::from(&ObjectKey::of(&service.metadata));
        let new = LiveService::of(service, how.settled());
        let live = self.live.entry(key.clone()).or_default();
        if live.service.as_ref().is_some_and(|old| how.is_no_news(&new.at(), &old.at())) {
            return None;
        }
        if how.settled().is_some() {
            self.written.insert(key.clone(), new.at().uid);
        }
        live.service = Some(new);
        Some(key)
    }

    /// Removes a local Service.
    pub(crate) fn drop_service(&mut self, key: &ServiceKey) -> Option<ServiceKey> {
        let live = self.live.get_mut(key)?;
        let news = live.service.take().is_some();
        self.forget(key);
        news.then(|| key.clone())
    }

    /// Sets a local slice, as [`World::put_service`] does.
    pub(crate) fn put_slice(&mut self, slice: &EndpointSlice, how: Observation) -> Option<ServiceKey> {
        let key = ObjectKey::of(&slice.metadata);
        let named = slice.metadata.labels.as_ref().and_then(|labels| labels.get(marks::SERVICE_NAME));
        let Some(named) = named else { return self.drop_slice(&key) };
        let home = ServiceKey { namespace: key.namespace().clone(), name: named.as_str().into() };
        self.put_slice_at(home, slice, how)
    }

    /// Sets a local slice that concerns this Service, whichever one it names.
    pub(crate) fn put_slice_at(
        &mut self,
        home: ServiceKey,
        slice: &EndpointSlice,
        how: Observation,
    ) -> Option<ServiceKey> {
        let key = ObjectKey::of(&slice.metadata);
        let new = LiveSlice::of(slice, how.settled());
        if let Some(before) = self.homes.get(&key).cloned()
            && let Some(live) = self.live.get_mut(&before)
        {
            if live.slices.get(&new.name).is_some_and(|old| how.is_no_news(&new.at, &old.at)) {
                return None;
            }
            if before != home {
                live.slices.remove(&new.name);
                self.forget(&before);
            }
        }
        self.homes.insert(key, home.clone());
        self.live.entry(home.clone()).or_default().slices.insert(new.name.clone(), new);
        Some(home)
    }

    /// Removes a local slice.
    pub(crate) fn drop_slice(&mut self, key: &ObjectKey) -> Option<ServiceKey> {
        let home = self.homes.remove(key)?;
        let live = self.live.get_mut(&home)?;
        let news = live.slices.remove(&**key.name()).is_some();
        self.forget(&home);
        news.then_some(home)
    }

    /// Notes that a remote Service has changed. `reported` says that the watch reported it, or that the object itself shows it, and
    /// that it was not merely missing from a list.
    fn changed(
        &mut self,
        remote: usize,
        old: Option<&Origin>,
        new: Option<&Origin>,
        reported: bool,
        dirty: &mut Dirty,
    ) {
        let before = old.map(|origin| self.wants(remote, origin).0).unwrap_or_default();
        let (after, problem) = new.map(|origin| self.wants(remote, origin)).unwrap_or_default();
        if let Some(key) = old.or(new).map(|origin| origin.key.clone()) {
            match problem {
                Some(problem) => self.nameless.insert((remote, key.clone()), problem),
                None => self.nameless.remove(&(remote, key.clone())),
            };
            if !self.config.remotes[remote].sync {
                self.remotes[remote].seen.insert(key);
            }
        }
        for (local, claim) in &before {
            dirty.insert(local.clone());
            if after.iter().any(|(other, _claim)| other == local) {
                continue;
            }
            // Another remote's Service may still support the claim of a global one.
            let global = matches!(claim, Claim::Global(key) if self.opted_in_elsewhere(remote, key));
            if global {
                continue;
            }
            if let Some(claims) = self.claims.get_mut(local) {
                claims.remove(claim);
                if claims.is_empty() {
                    self.claims.remove(local);
                    if reported {
                        self.permits.insert(local.clone());
                    }
                }
            }
        }
        for (local, claim) in after {
            self.permits.remove(&local);
            self.held.remove(&local);
            self.claims.entry(local.clone()).or_default().insert(claim);
            dirty.insert(local);
        }
    }

    fn opted_in_elsewhere(&self, than: usize, key: &ServiceKey) -> bool {
        let Some(global) = &self.config.global else { return false };
        let opted_in = |origin: &Arc<Origin>| !origin.is_mirror() && global.opted_in(&origin.labels);
        let others = self.remotes.iter().enumerate().filter(|(number, _)| *number != than);
        others.filter_map(|(_, state)| state.index.service(key)).any(opted_in)
    }

    fn local_listed(&mut self, namespace: &str, set: impl FnOnce(&mut Listed), dirty: &mut Dirty) {
        if let Some(listed) = self.listed.get_mut(namespace) {
            let before = listed.services && listed.slices;
            set(listed);
            if !before && listed.services && listed.slices {
                dirty.extend(self.names());
            }
        }
        self.judge_due = true;
    }

    /// Forgets a name that is neither taken nor claimed.
    fn forget(&mut self, key: &ServiceKey) {
        let empty = |live: &Live| live.service.is_none() && live.slices.is_empty();
        if !self.live.get(key).is_some_and(empty) {
            return;
        }
        self.live.remove(key);
        self.held.remove(key);
        if !self.claims.contains_key(key) {
            self.permits.remove(key);
            self.written.remove(key);
        }
    }
}
