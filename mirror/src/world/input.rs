//! The goal for one local name, derived from the current state.

use std::sync::Arc;

use controlplane::index::ServiceKey;

use super::{Claim, Identity, NameOwner, World, judge::Absence};
use crate::{
    desired::{self, Desired, Peer, Source},
    index::Slice,
    live::{Live, Ownership, noted_origin},
    marks,
    refusal::Refusal,
    stale::Verdict,
};

/// Everything that reconciling one local name needs.
#[derive(Debug)]
pub(crate) struct Input {
    /// The goal.
    pub(crate) goal: Goal,
    /// The owner of the name, if it is known.
    pub(crate) whose: Option<NameOwner>,
    /// The local objects.
    pub(crate) live: Live,
    /// The UID of the Service that this process has created or adopted under this name.
    pub(crate) written: Option<String>,
    /// The claims that are refused, and why.
    pub(crate) refusals: Vec<Refusal>,
}

/// The goal for a local name.
#[derive(Clone, Debug)]
pub(crate) enum Goal {
    /// No change, because something is not known yet, as the text says.
    Wait(String),
    /// A mirror.
    Mirror(Box<Desired>),
    /// The existing mirror, without a ready endpoint.
    Dim,
    /// No mirror, for this reason.
    Remove(&'static str),
    /// No mirror; but that is only inferred, and for too many at once, so that the deletion is held back.
    Hold,
    /// Nothing: the name is neither claimed nor ours.
    Nothing,
}

impl World {
    /// The input of a local name.
    pub(crate) fn input(&mut self, key: &ServiceKey) -> Input {
        let live = self.live.get(key).cloned().unwrap_or_default();
        let written = self.written.get(key).cloned();
        let mut input = Input { goal: Goal::Nothing, whose: None, live, written, refusals: Vec::new() };
        if !self.knows_local(&key.namespace) {
            input.goal = Goal::Wait(format!("there is no complete list of namespace {} yet", key.namespace));
            return input;
        }
        match self.winner(key, &input.live) {
            Some((Claim::Plain(number, origin), losers)) => {
                input.whose = Some(NameOwner::Remote(number));
                input.refusals = losers;
                input.goal = self.plain(key, number, &origin, &mut input.refusals);
            }
            Some((Claim::Global(origin), losers)) => {
                input.whose = Some(NameOwner::Global);
                input.refusals = losers;
                input.goal = self.global(key, &origin, &input.live, &mut input.refusals);
            }
            None => {
                input.whose = self.whose(key, &input.live);
                input.goal = self.unclaimed(key, input.whose, &input.live);
            }
        }
        input
    }

    /// The claim that gets the name, and the refused ones: the claim whose mirror exists already wins, else the oldest Service.
    fn winner(&self, key: &ServiceKey, live: &Live) -> Option<(Claim, Vec<Refusal>)> {
        let claims = self.claims.get(key)?;
        let holds = |claim: &&Claim| {
            let Some(service) = &live.service else { return false };
            match claim {
                Claim::Plain(number, origin) => {
                    let ours = self.owner(NameOwner::Remote(*number)).owns(&service.object) == Ownership::Ours;
                    ours && noted_origin(&service.object).as_ref() == Some(origin)
                }
                Claim::Global(origin) => {
                    let notes = service.object.metadata.annotations.as_ref();
                    let note = notes.and_then(|notes| notes.get(marks::GLOBAL));
                    note.is_some_and(|note| *note == origin.to_string())
                }
            }
        };
        let age = |claim: &&Claim| match claim {
            Claim::Plain(number, origin) => {
                self.remotes[*number].index.service(origin).map_or(i64::MAX, |origin| origin.created)
            }
            Claim::Global(origin) => {
                let all = self.remotes.iter().filter_map(|remote| remote.index.service(origin));
                all.map(|origin| origin.created).min().unwrap_or(i64::MAX)
            }
        };
        let winner = claims.iter().find(holds).or_else(|| claims.iter().min_by_key(age))?;
        let describe = |claim: &Claim| match claim {
            Claim::Plain(number, origin) => format!("Service {origin} of {}", self.config.remotes[*number].name),
            Claim::Global(origin) => format!("the global Service {origin}"),
        };
        let losers = claims.iter().filter(|claim| *claim != winner);
        let losers = losers.map(|loser| Refusal::Collision { loser: describe(loser), holder: describe(winner) });
        Some((winner.clone(), losers.collect()))
    }

    fn plain(&self, key: &ServiceKey, number: usize, service: &ServiceKey, refusals: &mut Vec<Refusal>) -> Goal {
        let (state, config) = (&self.remotes[number], &self.config.remotes[number]);
        let nothing = || Goal::Remove("its Service is not there");
        let Some((origin, scope)) = state.index.service(service).zip(state.scope(&service.namespace)) else {
            return nothing();
        };
        if scope.verdict == Verdict::Gone {
            return Goal::Remove("its remote is away for too long");
        }
        let named = !matches!(state.identity, Identity::Pending);
        if scope.verdict == Verdict::NotReady && !(scope.slices && named) {
            return Goal::Dim;
        }
        if !scope.slices {
            return Goal::Wait(format!("there is no complete list of the endpoint slices of {} yet", config.name));
        }
        if !named {
            return Goal::Wait(format!("{} has not said yet which cluster it is", config.name));
        }
        let peer = Peer { config, cluster: state.identity.uid() };
        match desired::mirror(key, peer, origin, &state.index.slices(service), scope.verdict) {
            Ok(desired) => Goal::Mirror(Box::new(desired)),
            Err(refusal) => {
                refusals.push(refusal);
                Goal::Remove("its Service is refused")
            }
        }
    }

    fn global(&self, key: &ServiceKey, service: &ServiceKey, live: &Live, refusals: &mut Vec<Refusal>) -> Goal {
        let Some(global) = &self.config.global else { return Goal::Nothing };
        let (mut sources, mut untouched, mut dimmed, mut gone) = (Vec::new(), Vec::new(), Vec::new(), false);
        for (state, config) in self.remotes.iter().zip(&self.config.remotes) {
            let Some(scope) = state.scope(&service.namespace) else { continue };
            if scope.verdict == Verdict::Gone {
                gone = true;
                continue;
            }
            if !scope.services || !scope.slices || matches!(state.identity, Identity::Pending) {
                untouched.push(config.name.clone());
                if scope.verdict == Verdict::NotReady {
                    dimmed.push(config.name.clone());
                }
                continue;
            }
            let origin = state.index.service(service);
            let Some(origin) = origin.filter(|it| !it.is_mirror() && global.opted_in(&it.labels)) else { continue };
            let peer = Peer { config, cluster: state.identity.uid() };
            let slices: Vec<Arc<Slice>> = state.index.slices(service);
            sources.push(Source { peer, origin, slices, verdict: scope.verdict });
        }
        if sources.is_empty() {
            return match untouched.is_empty() {
                true if gone => Goal::Remove("its remotes are away for too long"),
                true => Goal::Remove("its Services are not there"),
                false => Goal::Wait(format!("there are no complete lists of {} yet", untouched.join(", "))),
            };
        }
        let there = live.service.as_ref().map(|live| &*live.object);
        match desired::merge(key, global, sources, untouched, there) {
            Ok(desired) => Goal::Mirror(Box::new(Desired { dimmed, ..desired })),
            Err(refusal) => {
                refusals.push(refusal);
                Goal::Remove("its Services are refused")
            }
        }
    }

    fn unclaimed(&mut self, key: &ServiceKey, whose: Option<NameOwner>, live: &Live) -> Goal {
        let made = self.made_here(key, live);
        // A remote that has not been listed yet may have a Service that opts in.
        let told = whose != Some(NameOwner::Global) || self.absence(NameOwner::Global, live) == Absence::Missing;
        // The remote may be another cluster by now.
        let doubted = |number: usize| matches!(self.remotes[number].identity, Identity::Pending);
        let doubted = matches!(whose, Some(NameOwner::Remote(number)) if doubted(number));
        if self.permits.contains(key) && (whose.is_some() || made) && told && !doubted {
            return Goal::Remove("its Service is gone");
        }
        let Some(whose) = whose else {
            if live.service.is_none() {
                self.permits.remove(key);
            }
            return Goal::Nothing;
        };
        if live.service.is_none() {
            return Goal::Remove("its Service is gone");
        }
        match self.absence(whose, live) {
            Absence::Lost => Goal::Remove("its remote is away for too long"),
            Absence::Dimmed => Goal::Dim,
            Absence::Unknown => Goal::Wait("there is no complete list of its remote yet".into()),
            Absence::Missing => {
                // Decided together with the other missing ones.
                self.judge_due |= !self.held.contains_key(key);
                Goal::Hold
            }
        }
    }

    /// Whether there is a Service that this process has created or adopted, from which somebody has removed our labels and annotations. One
    /// that bears the marks of another mirror by now is that mirror's.
    fn made_here(&self, key: &ServiceKey, live: &Live) -> bool {
        let Some(service) = &live.service else { return false };
        let uid = service.object.metadata.uid.as_ref();
        uid.is_some()
            && self.written.get(key) == uid
            && !self.owners(&key.namespace).all(|whose| self.owner(whose).is_anothers(&service.object))
    }
}
