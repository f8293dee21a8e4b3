//! Reconciles one local name: compares the desired with the actual state, writes, and takes the answers into the known state.

mod condition;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use ::metrics::{counter, histogram};
use controlplane::{index::ServiceKey, watch::ObjectKey};
use k8s_openapi::{api::discovery::v1::EndpointSlice, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use parking_lot::Mutex;
use runtime::drain::DrainWatch;

use crate::{
    apply::{Apply, Failure},
    desired::Desired,
    live::{Live, LiveService, LiveSlice, slice_digest},
    metrics as names,
    plan::{self, Removal, ServiceStep, SliceStep},
    queue::{Outcome, Queue},
    refusal::Refusal,
    world::{Goal, NameOwner, Observation, World},
};

/// How often one job starts over when an object has changed since it was read.
const MAX_ATTEMPTS: usize = 5;

/// The state that the workers share.
pub(crate) struct Reconciler {
    pub(crate) world: Mutex<World>,
    pub(crate) queue: Queue,
    pub(crate) apply: Apply,
    /// Names that cannot be reconciled because a right or the namespace is missing, and why.
    pub(crate) barred: Mutex<BTreeMap<ServiceKey, String>>,
}

/// What one job did, so far.
#[derive(Debug, Default)]
struct Work {
    wrote: bool,
    /// Names of slices that are taken by slices of another Service.
    taken: Vec<String>,
    /// The first failure. Later steps are tried nevertheless.
    failed: Option<Failure>,
}

/// What one attempt is to do.
enum Todo {
    /// Update the mirror, beginning with its Service.
    Mirror(Box<Desired>, Box<ServiceStep>),
    /// Remove the mirror, for this reason.
    Remove(Removal, &'static str),
    /// Mark its endpoints as not ready.
    Dim,
    /// Leave it as it is.
    Nothing,
}

impl Reconciler {
    /// Works until it is told to stop; a job that has begun is finished.
    pub(crate) async fn work(&self, stop: DrainWatch) {
        loop {
            let job = tokio::select! {
                biased;
                () = stop.wait() => return,
                job = self.queue.next() => job,
            };
            self.job(&job.key, job.since).await;
        }
    }

    async fn job(&self, key: &ServiceKey, since: Instant) {
        if !self.apply.leads() {
            self.barred.lock().remove(key);
            // All names are reconciled when this process begins to lead. Until then only the known state is maintained.
            self.world.lock().input(key);
            self.queue.done(key, Outcome::Done, Instant::now());
            return;
        }
        let (wrote, ended) = self.reconcile(key).await;
        if wrote && ended.is_ok() {
            histogram!(names::LAG).record(since.elapsed());
        }
        match &ended {
            Err(Failure::Barred(why)) => drop(self.barred.lock().insert(key.clone(), why.clone())),
            _ => drop(self.barred.lock().remove(key)),
        }
        match ended {
            Ok(()) | Err(Failure::NotLeading) => {
                self.queue.done(key, Outcome::Done, Instant::now());
            }
            Err(failure) => {
                counter!(names::RETRIES).increment(1);
                if let Failure::Rejected(why) = &failure {
                    let note = format!("the local API server refuses it: {why}");
                    self.apply.report(key, None, "Rejected", &note).await;
                }
                let delay = self.queue.done(key, Outcome::Failed, Instant::now()).unwrap_or_default();
                tracing::warn!(service = %key, ?delay, "{failure}; trying again");
            }
        }
    }

    /// Why mirrors cannot be written: each reason once, and a few of them at most.
    pub(crate) fn bars(&self) -> Vec<String> {
        const MAX_REASONS: usize = 4;
        let barred = self.barred.lock();
        let reasons: BTreeSet<&String> = barred.values().collect();
        let mut told: Vec<String> = reasons.iter().take(MAX_REASONS).map(|why| (*why).clone()).collect();
        if reasons.len() > MAX_REASONS {
            told.push(format!("{} mirrors in total cannot be written", barred.len()));
        }
        told
    }

    /// Brings one name to its desired state. Returns whether anything was written, and the result.
    async fn reconcile(&self, key: &ServiceKey) -> (bool, Result<(), Failure>) {
        let mut wrote = false;
        for _ in 0..MAX_ATTEMPTS {
            let mut work = Work::default();
            self.attempt(key, &mut work).await;
            wrote |= work.wrote;
            match work.failed {
                None => return (wrote, Ok(())),
                Some(Failure::Outdated) => {
                    if let Err(failure) = self.look(key, &work.taken).await {
                        return (wrote, Err(failure));
                    }
                }
                Some(failure) => return (wrote, Err(failure)),
            }
        }
        (wrote, Err(Failure::Outdated))
    }

    async fn attempt(&self, key: &ServiceKey, work: &mut Work) {
        let (input, todo, prefix) = {
            let mut world = self.world.lock();
            let input = world.input(key);
            let owner = input.whose.map(|whose| world.owner(whose));
            let written = input.written.as_deref();
            let todo = match (&input.goal, owner) {
                (Goal::Mirror(desired), Some(owner)) => {
                    let step = plan::service(desired, key, input.live.service.as_ref(), owner, written);
                    Todo::Mirror(desired.clone(), Box::new(step))
                }
                (Goal::Remove(why), Some(owner)) => Todo::Remove(plan::removal(&input.live, owner, written), why),
                (Goal::Remove(why), None) => Todo::Remove(plan::removal_unmarked(&input.live, written), why),
                (Goal::Dim, Some(_)) => Todo::Dim,
                _ => Todo::Nothing,
            };
            let prefix = owner.map(|owner| owner.prefix.to_owned()).unwrap_or_default();
            (input, todo, prefix)
        };
        let uid = input.live.service.as_ref().and_then(|service| service.object.metadata.uid.clone());
        for refusal in &input.refusals {
            self.apply.report(key, uid.as_deref(), refusal.reason(), &refusal.to_string()).await;
        }
        match todo {
            Todo::Mirror(desired, step) => {
                let live = input.live.service.as_ref();
                let adopts = matches!(*step, ServiceStep::Adopt(..));
                let (first, last) = if adopts { (ServiceStep::Keep, Some(*step)) } else { (*step, None) };
                let Some(mut service) = self.service(key, &prefix, &desired, live, first, work).await else { return };
                let uid = service.at().uid;
                let steps = plan::slices(&desired, &input.live.slices, key, &uid, &prefix);
                self.slices(key, &uid, steps, work).await;
                self.leftovers(key, &input.live, &uid, &prefix, adopts, work).await;
                if let Some(adopt) = last {
                    if work.failed.is_some() {
                        return;
                    }
                    let Some(adopted) = self.service(key, &prefix, &desired, live, adopt, work).await else { return };
                    service = adopted;
                }
                if !desired.dimmed.is_empty() {
                    self.dim(key, &prefix, &desired.dimmed, work).await;
                }
                if input.whose == Some(NameOwner::Global) {
                    self.condition(&desired, &service, work).await;
                }
            }
            Todo::Remove(removal, why) => self.remove(key, removal, why, work).await,
            Todo::Dim => self.dim(key, &prefix, &[], work).await,
            Todo::Nothing => {}
        }
    }

    /// Carries out the step for the Service. Returns the resulting Service, if it is ours.
    async fn service(
        &self,
        key: &ServiceKey,
        prefix: &str,
        desired: &Desired,
        live: Option<&LiveService>,
        step: ServiceStep,
        work: &mut Work,
    ) -> Option<LiveService> {
        let written = match step {
            ServiceStep::Keep => return live.cloned(),
            ServiceStep::Create(service) => {
                tracing::info!(service = %key, "creating the mirror");
                self.apply.create_service(&service).await
            }
            ServiceStep::Adopt(service, differences) => {
                tracing::info!(service = %key, ?differences, "adopting a mirror that an older tool created");
                self.apply.replace_service(&service).await
            }
            ServiceStep::Update(service, differences) => {
                tracing::debug!(service = %key, ?differences, "updating the mirror");
                self.apply.replace_service(&service).await
            }
            ServiceStep::Recreate { at, service, why, adopts } => {
                tracing::info!(service = %key, why, "recreating the mirror");
                if adopts {
                    self.endpoints(key, prefix, &at.uid, work).await;
                    if work.failed.is_some() {
                        return None;
                    }
                }
                if let Err(failure) = self.apply.delete_service(key, &at).await {
                    work.failed = Some(failure);
                    return None;
                }
                work.wrote = true;
                self.world.lock().drop_service(key);
                self.apply.create_service(&service).await
            }
            ServiceStep::Going => {
                work.failed = Some(Failure::Failed(format!(
                    "Service {key} is being deleted, but still exists: look at its finalizers"
                )));
                return None;
            }
            ServiceStep::Refuse(refusal) => {
                let uid = live.and_then(|live| live.object.metadata.uid.as_deref());
                self.apply.report(key, uid, refusal.reason(), &refusal.to_string()).await;
                return None;
            }
        };
        match written {
            Ok(service) => {
                work.wrote = true;
                let wanted = plan::service_digest(&desired.service);
                self.world.lock().put_service(service.clone(), Observation::Answered(wanted));
                Some(LiveService::of(service, Some(wanted)))
            }
            Err(failure) => {
                work.failed = Some(failure);
                None
            }
        }
    }

    /// Carries out the steps for the slices. Nothing is deleted while something could not be created or updated.
    async fn slices(&self, key: &ServiceKey, uid: &str, steps: Vec<SliceStep>, work: &mut Work) {
        for step in steps {
            let written = match step {
                SliceStep::Create(slice) => {
                    let created = self.apply.create_slice(&slice).await;
                    if created == Err(Failure::Outdated) {
                        work.taken.extend(slice.metadata.name.clone());
                    }
                    (created, slice_digest(&slice))
                }
                SliceStep::Update(slice) => (self.apply.replace_slice(&slice).await, slice_digest(&slice)),
                SliceStep::Delete(..) if work.failed.is_some() => continue,
                SliceStep::Delete(name, at) => {
                    match self.apply.delete_slice(&key.namespace, &name, &at).await {
                        Ok(()) => {
                            work.wrote = true;
                            self.world.lock().drop_slice(&slice_key(key, &name));
                        }
                        Err(failure) => work.fail(failure),
                    }
                    continue;
                }
                SliceStep::Refuse(refusal) => {
                    self.apply.report(key, Some(uid), refusal.reason(), &refusal.to_string()).await;
                    if let Refusal::ForeignSlice(name) = &refusal {
                        // A watch may never report its deletion, because it need not name this Service: the next attempt reads it again.
                        self.world.lock().drop_slice(&slice_key(key, name));
                    }
                    // Endpoints are missing here, so that nothing is deleted before somebody has looked into it.
                    work.fail(Failure::Failed(refusal.to_string()));
                    continue;
                }
            };
            match written {
                (Ok(slice), wanted) => {
                    work.wrote = true;
                    self.world.lock().put_slice(&slice, Observation::Answered(wanted));
                }
                (Err(failure), _) => work.fail(failure),
            }
        }
    }

    /// Removes what other controllers made of a mirror that had v1 Endpoints or a selector.
    async fn leftovers(&self, key: &ServiceKey, live: &Live, uid: &str, prefix: &str, adopts: bool, work: &mut Work) {
        // The slices of the older tool serve until all of ours exist.
        if work.failed.is_some() {
            return;
        }
        let left = plan::leftovers(&live.slices, uid);
        if left.endpoints || adopts {
            self.endpoints(key, prefix, uid, work).await;
        }
        for (name, at) in left.slices {
            match self.apply.delete_slice(&key.namespace, &name, &at).await {
                Ok(()) => {
                    work.wrote = true;
                    self.world.lock().drop_slice(&slice_key(key, &name));
                }
                Err(failure) => work.fail(failure),
            }
        }
    }

    /// Removes the v1 Endpoints that go with a mirror of an older tool, or with a selector.
    async fn endpoints(&self, key: &ServiceKey, prefix: &str, uid: &str, work: &mut Work) {
        match self.apply.delete_endpoints(key, prefix).await {
            Ok(false) => {}
            Ok(true) => {
                let note = "v1 Endpoints of another writer exist for this mirror; they are not changed, and their addresses are served \
                            beside those of the remote: delete them";
                self.apply.report(key, Some(uid), "ForeignEndpoints", note).await;
            }
            Err(failure) => work.fail(failure),
        }
    }

    async fn remove(&self, key: &ServiceKey, removal: Removal, why: &str, work: &mut Work) {
        match removal {
            Removal::Nothing => {}
            Removal::Service(at) => {
                tracing::info!(service = %key, why, "deleting the mirror");
                match self.apply.delete_service(key, &at).await {
                    Ok(()) => {
                        work.wrote = true;
                        self.world.lock().drop_service(key);
                    }
                    Err(failure) => work.fail(failure),
                }
            }
            Removal::Slices(slices) => {
                for (name, at) in slices {
                    match self.apply.delete_slice(&key.namespace, &name, &at).await {
                        Ok(()) => {
                            work.wrote = true;
                            self.world.lock().drop_slice(&slice_key(key, &name));
                        }
                        Err(failure) => work.fail(failure),
                    }
                }
            }
        }
    }

    /// Marks the endpoints of a mirror as not ready, or those of these remotes. They are read from the local slices, because nothing else
    /// is known of the remotes.
    async fn dim(&self, key: &ServiceKey, prefix: &str, remotes: &[String], work: &mut Work) {
        let (_service, slices) = match self.apply.read_service(key).await {
            Ok(found) => found,
            Err(failure) => return work.fail(failure),
        };
        for mut slice in slices {
            let known = LiveSlice::of(&slice, None);
            let concerned = known.is_ours(prefix) && (remotes.is_empty() || remotes.contains(&known.source));
            if !concerned || !dim(&mut slice) {
                continue;
            }
            slice.metadata.managed_fields = None;
            match self.apply.replace_slice(&slice).await {
                Ok(written) => {
                    work.wrote = true;
                    self.world.lock().put_slice(&written, Observation::Answered(slice_digest(&slice)));
                }
                Err(failure) => work.fail(failure),
            }
        }
    }

    /// Reads the Service, its slices, and those whose names its slices need, into the known state.
    async fn look(&self, key: &ServiceKey, taken: &[String]) -> Result<(), Failure> {
        let (service, slices) = self.apply.read_service(key).await?;
        let mut strays = Vec::new();
        for name in taken.iter().filter(|name| !slices.iter().any(|slice| slice.metadata.name.as_ref() == Some(name))) {
            strays.extend(self.apply.read_slice(key, name).await?);
        }
        let mut world = self.world.lock();
        for name in world.slices_of(key) {
            if !slices.iter().any(|slice| slice.metadata.name.as_deref() == Some(&*name)) {
                world.drop_slice(&slice_key(key, &name));
            }
        }
        for slice in &slices {
            world.put_slice(slice, Observation::Seen);
        }
        for slice in &strays {
            world.put_slice_at(key.clone(), slice, Observation::Seen);
        }
        match service {
            Some(service) => world.put_service(service, Observation::Seen),
            None => world.drop_service(key),
        };
        Ok(())
    }
}

impl Work {
    fn fail(&mut self, failure: Failure) {
        self.failed.get_or_insert(failure);
    }
}

/// The key of a slice beside its Service.
fn slice_key(service: &ServiceKey, name: &str) -> ObjectKey {
    ObjectKey::of(&ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(service.namespace.to_string()),
        ..ObjectMeta::default()
    })
}

/// Makes every endpoint not ready. Returns whether one was.
fn dim(slice: &mut EndpointSlice) -> bool {
    let mut changed = false;
    for endpoint in &mut slice.endpoints {
        let conditions = endpoint.conditions.get_or_insert_default();
        if conditions.ready != Some(false) || conditions.serving != Some(false) {
            (conditions.ready, conditions.serving) = (Some(false), Some(false));
            changed = true;
        }
    }
    changed
}
