//! The EndpointSlices of a Service that leads to the leader alone.
//!
//! The Service has no selector, so that no controller writes slices for it. The leader writes one slice for each of its
//! pod's address families, always by PUT of what it has read, with its term in an annotation; it never replaces that of a
//! higher term of the same lock.

use std::{collections::BTreeMap, net::IpAddr, pin::pin, time::Duration};

use futures::future::join;
use k8s_openapi::{
    api::{
        core::v1::{ObjectReference, Pod, Service, ServicePort},
        discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
    },
    apimachinery::pkg::{apis::meta::v1::OwnerReference, util::intstr::IntOrString},
};
use kube::{
    Api, Client, ResourceExt,
    api::{ObjectMeta, PostParams},
};
use runtime::{
    backoff::Backoff,
    boot_time::{BootTime, sleep_until},
};
use tokio::time::sleep;

use super::{ProblemLog, explain};
use crate::lease::{Claim, Election, Ending, Leadership, Term, TermEvent, Terms, WriteError};

/// The value of `endpointslice.kubernetes.io/managed-by` on slices of ours.
pub const MANAGED_BY: &str = "fanfare-elect";

/// The annotation with the writer's term: the lock's UID, a slash, its transitions.
pub const TERM: &str = "fanfare.dev/term";

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGER: &str = "endpointslice.kubernetes.io/managed-by";

/// A family as `addressType` has it, and whether an address is of it.
type AddressType = (&'static str, fn(&IpAddr) -> bool);

const ADDRESS_TYPES: [AddressType; 2] = [("IPv4", IpAddr::is_ipv4), ("IPv6", IpAddr::is_ipv6)];

/// The time limit of one round of requests, which is not longer than a release waits for it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The interval at which a leader checks its slices.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The first delay after a failure.
const FIRST_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The time limit for emptying the slices at the end of a term, including retries and delays.
const EMPTYING_TIMEOUT: Duration = Duration::from_secs(2);

/// The first pause between these tries.
const EMPTYING_RETRY_DELAY: Duration = Duration::from_millis(100);

/// Points one Service at this process's pod while it leads.
pub struct LeaderService {
    client: Client,
    namespace: String,
    service: String,
    pod: String,
    election: Election,
    problems: ProblemLog,
}

/// Why a Service does not lead to the leader.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Request(String),
    #[error("service {0} has a selector, so its slices belong to a controller: use a Service without a selector")]
    Selector(String),
    #[error("endpointslice {0} belongs to another controller (managed by {1:?}): delete it, or use another Service")]
    Foreign(String, String),
    #[error("endpointslice {0} was written in a later term ({1}): this process does not lead any more")]
    LaterTerm(String, String),
    #[error("pod {0} has no address yet")]
    NoAddress(String),
}

impl LeaderService {
    /// For the pod of this candidate, which is in the Service's namespace. Needs `get` on `services` and `pods`, and `get`,
    /// `create` and `update` on `endpointslices`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, service: &str, pod: &str, election: Election) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            service: service.to_owned(),
            pod: pod.to_owned(),
            election,
            problems: ProblemLog::default(),
        }
    }

    /// Writes the slices when a term begins, puts them right while it lasts, and empties them when it ends, if nobody else
    /// has written them. Returns when the elector has ended.
    pub async fn run(mut self, mut terms: Terms) {
        let leadership = self.election.leadership();
        let mut backoff = Backoff::new(FIRST_RETRY_DELAY, 2.0, CHECK_INTERVAL);
        let mut wait = None;
        loop {
            let due = async {
                match wait {
                    Some(wait) => sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = terms.next() => wait = match event {
                    Some(TermEvent::Began(_)) => {
                        backoff.reset();
                        Some(Duration::ZERO)
                    }
                    Some(TermEvent::Ended(ending)) => {
                        self.leave(ending).await;
                        None
                    }
                    None => return,
                },
                () = due => wait = Some(self.lead(&leadership, &mut backoff).await),
            }
        }
    }

    /// Writes the slices. Returns when to do so again.
    async fn lead(&mut self, leadership: &Leadership, backoff: &mut Backoff) -> Duration {
        let done = leadership.write(ANSWER_TIMEOUT, async |claim: &Claim| self.reconcile(claim).await).await;
        match done {
            Ok(()) => self.problems.solved(),
            // The event of the term's end comes next.
            Err(WriteError::NotLeading(_)) => {}
            Err(error) => {
                let problem = match error {
                    WriteError::Failed(problem) => problem.to_string(),
                    _ => format!("the slices of service {}: no answer of the API server in time", self.service),
                };
                self.problems.problem(self.election.name(), problem);
                return backoff.next_delay();
            }
        }
        backoff.reset();
        CHECK_INTERVAL
    }

    async fn reconcile(&self, claim: &Claim) -> Result<(), Problem> {
        let Self { client, namespace, .. } = self;
        let failed = |verb: &'static str, resource: &'static str| {
            move |error: kube::Error| Problem::Request(explain(verb, resource, namespace, &error))
        };
        let services: Api<Service> = Api::namespaced(client.clone(), namespace);
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let slices = self.slices();
        let service = services.get(&self.service).await.map_err(failed("get", "services"))?;
        let pod = pods.get(&self.pod).await.map_err(failed("get", "pods"))?;
        for desired in desired(&service, &pod, claim.term.as_ref())? {
            let name = desired.name_any();
            match slices.get_opt(&name).await.map_err(failed("get", "endpointslices"))? {
                None if desired.endpoints.is_empty() => {}
                None => {
                    let post = slices.create(&PostParams::default(), &desired).await;
                    post.map_err(failed("create", "endpointslices"))?;
                }
                Some(live) => {
                    may_replace(&live, claim.term.as_ref())?;
                    let desired = over(&live, desired);
                    if !same(&live, &desired) {
                        let put = slices.replace(&name, &PostParams::default(), &desired).await;
                        put.map_err(failed("update", "endpointslices"))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Empties the slices, unless another process has written them since.
    async fn leave(&mut self, ending: Ending) {
        let (stop_by, gives_up) = (ending.stop_by, BootTime::now() + EMPTYING_TIMEOUT);
        let term = ending.term.clone();
        let mut emptied = pin!(self.empty(&term));
        tokio::select! {
            biased;
            () = &mut emptied => return,
            () = sleep_until(stop_by) => {}
        }
        // Somebody else may lead from now on, and is not held up: what they write is not touched.
        drop(ending);
        tokio::select! {
            biased;
            () = emptied => {}
            () = sleep_until(gives_up) => {}
        }
    }

    /// Tries until it has succeeded.
    async fn empty(&mut self, term: &Term) {
        let mut backoff = Backoff::new(EMPTYING_RETRY_DELAY, 2.0, EMPTYING_TIMEOUT);
        loop {
            let [first, second] = ADDRESS_TYPES.map(|(family, _)| self.empty_family(family, term));
            let (first, second) = join(first, second).await;
            let Err(problem) = first.and(second) else { return };
            self.problems.problem(self.election.name(), problem);
            sleep(backoff.next_delay()).await;
        }
    }

    async fn empty_family(&self, family: &str, term: &Term) -> Result<(), String> {
        let failed = |verb: &str, error: &kube::Error| explain(verb, "endpointslices", &self.namespace, error);
        let (slices, name) = (self.slices(), slice_name(&self.service, family));
        let Some(mut live) = slices.get_opt(&name).await.map_err(|error| failed("get", &error))? else { return Ok(()) };
        // Nobody else has this term.
        let own = is_ours(&live) && live.annotations().get(TERM).is_some_and(|text| *text == term_text(term));
        if !own || live.endpoints.is_empty() {
            return Ok(());
        }
        live.endpoints.clear();
        let put = slices.replace(&name, &PostParams::default(), &live).await;
        put.map(drop).map_err(|error| failed("update", &error))
    }

    fn slices(&self) -> Api<EndpointSlice> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}

/// One slice for each address family; an empty one for a family that the pod has no address of, so that nothing stays of a
/// leader that had one.
fn desired(service: &Service, pod: &Pod, term: Option<&Term>) -> Result<[EndpointSlice; 2], Problem> {
    let name = service.name_any();
    let spec = service.spec.clone().unwrap_or_default();
    if spec.selector.is_some_and(|selector| !selector.is_empty()) {
        return Err(Problem::Selector(name));
    }
    let ips: Vec<IpAddr> = pod
        .status
        .iter()
        .flat_map(|status| status.pod_ips.iter().flatten())
        .filter_map(|ip| ip.ip.parse().ok())
        .collect();
    if ips.is_empty() {
        return Err(Problem::NoAddress(pod.name_any()));
    }
    let ports: Vec<EndpointPort> = spec.ports.iter().flatten().map(|port| endpoint_port(port, pod)).collect();
    let slices = ADDRESS_TYPES.map(|(family, is)| {
        let address = ips.iter().find(|ip| is(ip));
        slice(service, pod, term, family, address, ports.clone())
    });
    Ok(slices)
}

fn slice(
    service: &Service,
    pod: &Pod,
    term: Option<&Term>,
    family: &str,
    address: Option<&IpAddr>,
    ports: Vec<EndpointPort>,
) -> EndpointSlice {
    let name = service.name_any();
    let labels = BTreeMap::from([(SERVICE_NAME.to_owned(), name.clone()), (MANAGER.to_owned(), MANAGED_BY.to_owned())]);
    let annotations = term.map(|term| BTreeMap::from([(TERM.to_owned(), term_text(term))]));
    let owner = OwnerReference {
        api_version: "v1".into(),
        kind: "Service".into(),
        name: name.clone(),
        uid: service.metadata.uid.clone().unwrap_or_default(),
        ..OwnerReference::default()
    };
    let conditions = EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) };
    let target = ObjectReference {
        kind: Some("Pod".into()),
        name: pod.metadata.name.clone(),
        namespace: pod.metadata.namespace.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    };
    let endpoint = |address: &IpAddr| Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(conditions.clone()),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target_ref: Some(target.clone()),
        ..Endpoint::default()
    };
    EndpointSlice {
        address_type: family.to_owned(),
        endpoints: address.map(endpoint).into_iter().collect(),
        ports: Some(ports),
        metadata: ObjectMeta {
            name: Some(slice_name(&name, family)),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            annotations,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
    }
}

/// The port that the pod listens on: `targetPort` by number, or by the name of a port of its containers, else the same.
fn endpoint_port(port: &ServicePort, pod: &Pod) -> EndpointPort {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let number = match &port.target_port {
        Some(IntOrString::Int(number)) if *number > 0 => *number,
        Some(IntOrString::String(name)) => containers
            .flat_map(|container| container.ports.iter().flatten())
            .find(|found| found.name.as_ref() == Some(name))
            .map_or(port.port, |found| found.container_port),
        _ => port.port,
    };
    EndpointPort {
        app_protocol: port.app_protocol.clone(),
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(number),
        protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
    }
}

fn slice_name(service: &str, family: &str) -> String {
    format!("{service}-{}", family.to_lowercase())
}

fn manager(live: &EndpointSlice) -> &str {
    live.labels().get(MANAGER).map(String::as_str).unwrap_or_default()
}

fn is_ours(live: &EndpointSlice) -> bool {
    manager(live) == MANAGED_BY
}

/// Whether a slice that is there is ours, and of no later term.
fn may_replace(live: &EndpointSlice, term: Option<&Term>) -> Result<(), Problem> {
    if !is_ours(live) {
        return Err(Problem::Foreign(live.name_any(), manager(live).to_owned()));
    }
    let (Some(term), Some(text)) = (term, live.annotations().get(TERM)) else { return Ok(()) };
    // Terms of another lock, as after it was deleted, cannot be compared: the claim on the one that is there decides.
    let Some((uid, transitions)) = text.rsplit_once('/') else { return Ok(()) };
    let later = uid == &*term.uid && transitions.parse::<u64>().is_ok_and(|transitions| transitions > term.transitions);
    if later { Err(Problem::LaterTerm(live.name_any(), text.clone())) } else { Ok(()) }
}

/// What is to be put over a live object: what it has that we do not know of stays.
fn over(live: &EndpointSlice, desired: EndpointSlice) -> EndpointSlice {
    let mut metadata = live.metadata.clone();
    metadata.labels.get_or_insert_default().extend(desired.metadata.labels.unwrap_or_default());
    metadata.annotations.get_or_insert_default().extend(desired.metadata.annotations.unwrap_or_default());
    metadata.owner_references = desired.metadata.owner_references;
    EndpointSlice { metadata, ..desired }
}

fn same(live: &EndpointSlice, desired: &EndpointSlice) -> bool {
    let of = |slice: &EndpointSlice| {
        let meta = &slice.metadata;
        let owners = meta.owner_references.clone().unwrap_or_default();
        (slice.endpoints.clone(), slice.ports.clone(), meta.labels.clone(), meta.annotations.clone(), owners)
    };
    of(live) == of(desired)
}

fn term_text(term: &Term) -> String {
    format!("{}/{}", term.uid, term.transitions)
}
