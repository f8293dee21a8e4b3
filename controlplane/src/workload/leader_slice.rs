//! The EndpointSlices of a Service that leads to the leader alone.
//!
//! The Service has no selector, so that no controller writes slices for it. The leader writes one slice for each of its
//! pod's address families, always by PUT of what it has read, with its term in an annotation; it never replaces that of a
//! higher term of the same lock.

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

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
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{Told, explain};
use crate::lease::{Claim, Election, Leadership, Term, TermEvent, Terms, WriteError};

/// The value of `endpointslice.kubernetes.io/managed-by` on slices of ours.
pub const MANAGED_BY: &str = "fanfare-elect";

/// The annotation with the writer's term: the lock's UID, a slash, its transitions.
pub const TERM: &str = "fanfare.dev/term";

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGER: &str = "endpointslice.kubernetes.io/managed-by";

/// How long the API server may take for everything that is asked in one go.
const ANSWER: Duration = Duration::from_secs(5);

/// How often a leader looks whether its slices are still as they should be.
const LOOK: Duration = Duration::from_secs(5);

/// Points one Service at this process's pod while it leads.
pub struct LeaderService {
    client: Client,
    namespace: String,
    service: String,
    pod: String,
    election: Election,
    /// What this process wrote last, for giving it back.
    written: Vec<EndpointSlice>,
    told: Told,
}

/// Why a Service does not lead to the leader.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    Request(String),
    #[error("service {0} has a selector, so that its slices are a controller's: take a Service without one")]
    Selector(String),
    #[error("endpointslice {0} belongs to somebody else (managed by {1:?}): delete it, or take another Service")]
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
            written: Vec::new(),
            told: Told::default(),
        }
    }

    /// Writes the slices when a term begins, puts them right while it lasts, and empties them when it ends, if nobody else
    /// has written them. Returns when the elector has ended.
    pub async fn run(mut self, mut terms: Terms) {
        let leadership = self.election.leadership();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = terms.next() => match event {
                    Some(TermEvent::Began(_)) => self.lead(&leadership).await,
                    Some(TermEvent::Ended(_ending)) => self.leave().await,
                    None => return,
                },
                _ = look.tick() => if leadership.claim().is_ok() { self.lead(&leadership).await },
            }
        }
    }

    async fn lead(&mut self, leadership: &Leadership) {
        let done = leadership.write(ANSWER, async |claim: &Claim| self.reconcile(claim).await).await;
        match done {
            Ok(written) => {
                self.written = written;
                self.told.solved();
            }
            Err(WriteError::NotLeading(_)) => {}
            Err(error) => self.told.problem(self.election.name(), error.to_string()),
        }
    }

    async fn reconcile(&self, claim: &Claim) -> Result<Vec<EndpointSlice>, Problem> {
        let Self { client, namespace, .. } = self;
        let failed = |verb: &'static str, resource: &'static str| {
            move |error: kube::Error| Problem::Request(explain(verb, resource, namespace, &error))
        };
        let services: Api<Service> = Api::namespaced(client.clone(), namespace);
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
        let service = services.get(&self.service).await.map_err(failed("get", "services"))?;
        let pod = pods.get(&self.pod).await.map_err(failed("get", "pods"))?;
        let mut written = Vec::new();
        for desired in desired(&service, &pod, claim.term.as_ref())? {
            let name = desired.name_any();
            let live = slices.get_opt(&name).await.map_err(failed("get", "endpointslices"))?;
            let done = match live {
                None => {
                    slices.create(&PostParams::default(), &desired).await.map_err(failed("create", "endpointslices"))
                }
                Some(live) => {
                    may_replace(&live, claim.term.as_ref())?;
                    let desired = over(&live, desired);
                    if same(&live, &desired) {
                        Ok(live)
                    } else {
                        let put = slices.replace(&name, &PostParams::default(), &desired).await;
                        put.map_err(failed("update", "endpointslices"))
                    }
                }
            };
            written.push(done?);
        }
        Ok(written)
    }

    /// Leads to nobody, where what this process wrote is still there: the PUT carries the version of its own last write.
    async fn leave(&mut self) {
        let slices: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &self.namespace);
        for mut slice in std::mem::take(&mut self.written) {
            slice.endpoints.clear();
            let put = async { slices.replace(&slice.name_any(), &PostParams::default(), &slice).await };
            match timeout(ANSWER, put).await {
                Ok(Ok(_)) | Err(_) => {}
                // Somebody else has written it, or it is gone.
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {}
                Ok(Err(error)) => {
                    let problem = explain("update", "endpointslices", &self.namespace, &error);
                    self.told.problem(self.election.name(), problem);
                }
            }
        }
    }
}

/// One slice for each address family of the pod.
fn desired(service: &Service, pod: &Pod, term: Option<&Term>) -> Result<Vec<EndpointSlice>, Problem> {
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
    let families = [("IPv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("IPv6", IpAddr::is_ipv6)];
    let slices = families.into_iter().filter_map(|(family, is)| {
        let address = ips.iter().find(|ip| is(ip))?;
        Some(slice(service, pod, term, family, address, ports.clone()))
    });
    Ok(slices.collect())
}

fn slice(
    service: &Service,
    pod: &Pod,
    term: Option<&Term>,
    family: &str,
    address: &IpAddr,
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
    let endpoint = Endpoint {
        addresses: vec![address.to_string()],
        conditions: Some(conditions),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target_ref: Some(target),
        ..Endpoint::default()
    };
    EndpointSlice {
        address_type: family.to_owned(),
        endpoints: vec![endpoint],
        ports: Some(ports),
        metadata: ObjectMeta {
            name: Some(format!("{name}-{}", family.to_lowercase())),
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

/// Whether a slice that is there is ours, and of no later term.
fn may_replace(live: &EndpointSlice, term: Option<&Term>) -> Result<(), Problem> {
    let manager = live.labels().get(MANAGER).map(String::as_str).unwrap_or_default();
    if manager != MANAGED_BY {
        return Err(Problem::Foreign(live.name_any(), manager.to_owned()));
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
