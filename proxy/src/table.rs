//! The table: routes with the targets of their clusters, built as a whole from a configuration and a snapshot, published with one
//! swap, loaded once per request.

mod build;
mod stays;
mod targets;

#[cfg(any(test, feature = "bench"))]
use std::net::SocketAddr;
use std::{borrow::Cow, net::IpAddr, sync::Arc, time::SystemTime};

#[cfg(any(test, feature = "bench"))]
use access::sources::Sources;
use access::{
    decision::{Decision, Fit, decide},
    identity::Caller,
};
#[cfg(any(test, feature = "bench"))]
use snapshot::Snapshot;
use snapshot::{Chunks, Cluster, Place, Version};

pub use self::build::{Built, Inputs, TableBuilder};
use crate::{
    callers::Callers,
    config::{Config, Listener, PathPattern, Route, Verdict},
    http::request::RequestHead,
    metrics::RouteMetrics,
    owed::RouteOwed,
    own::HostAddresses,
    secured::Secured,
    target::Target,
};

/// Everything that a request needs, from one configuration and one snapshot.
#[derive(Debug)]
pub struct Table {
    /// The configuration it was made from.
    pub config: Arc<Config>,
    /// TLS of that configuration.
    pub secured: Arc<Secured>,
    /// The version of the snapshot it was made from.
    pub version: Version,
    /// When it was made.
    pub made: SystemTime,
    /// One entry for each listener of the configuration, in its order.
    pub listeners: Vec<Arc<ListenerEntry>>,
    /// The addresses of this host by which endpoints were recognised as this process, if that was necessary.
    pub(crate) host: Option<HostAddresses>,
}

/// The routes of one listener.
#[derive(Debug)]
pub struct ListenerEntry {
    /// Its configuration.
    pub config: Arc<Listener>,
    /// The version of the snapshot that the table was made from.
    pub version: Version,
    /// Its routes, in the order in which they are tried, shared with the next table if it has the same.
    pub routes: Arc<[Arc<RouteEntry>]>,
    /// Its access control.
    pub callers: Arc<Callers>,
}

/// A route and its endpoints. The next table has the same one if its cluster is the same.
#[derive(Clone, Debug)]
pub struct RouteEntry {
    /// Its configuration.
    pub config: Arc<Route>,
    /// The cluster of the snapshot that its endpoints come from; none before there is a list of them.
    pub cluster: Option<Arc<Cluster>>,
    /// The members, in snapshot order.
    pub members: Chunks<Arc<Target>>,
    /// Every known endpoint of the cluster, for `/-/endpoints`.
    pub known: Chunks<Arc<Target>>,
    /// Known endpoints that are this proxy itself, which are left out.
    pub own: Vec<Place>,
    /// Why there is no member; empty if there are some.
    pub why_empty: Box<str>,
    /// The name of this deployment in `Via`.
    pub via: Arc<str>,
    /// Its metrics.
    pub metrics: Arc<RouteMetrics>,
    /// Its redelivery, if it has any.
    pub owed: Option<RouteOwed>,
}

/// An allowed request.
#[derive(Clone, Copy, Debug)]
pub struct Permitted<'a> {
    /// Its route.
    pub route: &'a Arc<RouteEntry>,
    /// Whether its caller may decide how it is sent.
    pub may_control: bool,
}

/// Why a request has no route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No allow rule matches, or none for this caller: 403.
    NotAllowed,
    /// An allow rule matches for authenticated callers only, and this one is not: 401.
    Unauthorized,
    /// No route matches: 404.
    NoMatch,
    /// A route or rule with this pattern would match, but an endpoint may read the path as one outside of it: 400.
    Leaves(PathPattern),
}

impl ListenerEntry {
    /// The route of a request, and whether its caller has control.
    ///
    /// # Errors
    /// [`NoRoute`] if no route matches, or the request is not allowed.
    pub fn route(&self, head: &RequestHead, caller: &Caller<'_>) -> Result<Permitted<'_>, NoRoute> {
        let may_control = self.allows(head, caller)? || self.is_controlled_from(caller.address);
        for route in self.routes.iter() {
            match route.config.matches.judge(head) {
                Verdict::Takes => return Ok(Permitted { route, may_control }),
                Verdict::Leaves(pattern) => return Err(NoRoute::Leaves(pattern.clone())),
                Verdict::No => {}
            }
        }
        Err(NoRoute::NoMatch)
    }

    /// Whether callers at this address have control.
    fn is_controlled_from(&self, address: IpAddr) -> bool {
        access::network::is_in(address, &self.config.control_from)
    }

    /// Checks that the request is allowed. Returns whether a rule grants its caller control.
    fn allows(&self, head: &RequestHead, caller: &Caller<'_>) -> Result<bool, NoRoute> {
        let allow = &self.config.allow;
        if allow.is_empty() {
            return Ok(false);
        }
        let rules = allow.iter().map(|allow| {
            let fit = match allow.matches.judge(head) {
                Verdict::Takes => Fit::Takes,
                Verdict::Leaves(pattern) => Fit::Leaves(pattern),
                Verdict::No => Fit::No,
            };
            (fit, &allow.by)
        });
        match decide(rules, caller) {
            Decision::Allowed { control } => Ok(control),
            Decision::Leaves(pattern) => Err(NoRoute::Leaves(pattern.clone())),
            Decision::Unauthorized => Err(NoRoute::Unauthorized),
            Decision::Forbidden => Err(NoRoute::NotAllowed),
        }
    }
}

impl Table {
    /// Builds a single table without redelivery.
    #[cfg(any(test, feature = "bench"))]
    #[must_use]
    pub fn build(
        previous: Option<&Self>,
        config: &Arc<Config>,
        snapshot: &Snapshot,
        bound: &[SocketAddr],
        access: &Arc<Sources>,
        secured: &Arc<Secured>,
    ) -> Self {
        let inputs = Inputs { config, secured, snapshot, bound, access, owed: &crate::owed::Stores::default() };
        let mut builder = previous.map(TableBuilder::after).unwrap_or_default();
        builder.next(previous, inputs).table
    }

    /// Every route of every listener.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<RouteEntry>> {
        self.listeners.iter().flat_map(|listener| listener.routes.iter())
    }

    /// Every target, once.
    #[must_use]
    pub fn targets(&self) -> Vec<&Arc<Target>> {
        let mut targets: Vec<_> = self.routes().flat_map(|route| &route.known).collect();
        targets.sort_by_key(|target| Arc::as_ptr(target));
        targets.dedup_by_key(|target| Arc::as_ptr(target));
        targets
    }
}

/// Why a cluster has no endpoint for requests: there is no list yet, its only endpoint is this process, or the reason of the
/// source.
fn why_empty(cluster: Option<&Arc<Cluster>>, own: &[Place]) -> String {
    let Some(cluster) = cluster else { return "there is no list of its endpoints yet".to_owned() };
    let others = cluster.endpoints().len() - own.len();
    match (own, others, cluster.why_empty()) {
        ([], 0, Some(why)) => why.to_owned(),
        ([], 0, None) => "the list of its endpoints is empty".to_owned(),
        ([own, ..], 0, _) => format!("its only endpoint is this process itself ({own}), which is left out"),
        (_, others, _) => format!("none of its {others} known endpoints is ready"),
    }
}

impl RouteEntry {
    /// Whether there is a list of its endpoints yet, be it an empty one.
    #[must_use]
    pub fn has_list(&self) -> bool {
        self.cluster.is_some()
    }

    /// The reason why no request can reach an endpoint, if so.
    #[must_use]
    pub fn without_endpoint(&self) -> Option<Cow<'_, str>> {
        let mut problems = self.members.iter().map(|member| member.endpoint.address.problem());
        match (self.members.first(), problems.all(|problem| problem.is_some())) {
            (None, _) => Some(Cow::Borrowed(&self.why_empty)),
            (Some(first), true) => {
                let place = &first.endpoint.address;
                Some(format!("{place} does not resolve: {}", place.problem().unwrap_or_default()).into())
            }
            (Some(_), false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use snapshot::{AppProtocol, Change, ClusterName, Conditions, Endpoint, PodRef, Recheck, Spoken, channel};

    use super::*;
    use crate::{bench::setup, config::Members};

    fn config(members: Members) -> Arc<Config> {
        let route = |name: &str, matches: &str| {
            let mut route = setup::route(name, "c");
            route.matches = matches.parse().unwrap();
            route.policy.members = members;
            route
        };
        let mut config = setup::config(vec![route("purge", "PURGE /cache/*"), route("rest", "/*")]);
        config.listeners[0].allow = vec!["PURGE,GET /*".parse().unwrap()];
        Arc::new(config)
    }

    fn endpoint(last: u8, conditions: Conditions) -> Endpoint {
        Endpoint { conditions, ..Endpoint::ready(([192, 0, 2, last], 80).into()) }
    }

    fn publish<E: Into<Endpoint<Place>>>(endpoints: Vec<E>) -> Arc<Snapshot> {
        let (publisher, reader) = channel();
        publisher.apply([Change::Set(Arc::new(Cluster::new(ClusterName::new("c").unwrap(), endpoints)))]);
        reader.load().clone()
    }

    fn build(previous: Option<&Table>, config: &Arc<Config>, snapshot: &Snapshot, bound: &[SocketAddr]) -> Table {
        let secured = previous.map_or_else(Arc::default, |previous| previous.secured.clone());
        Table::build(previous, config, snapshot, bound, &Arc::default(), &secured)
    }

    fn request(line: &str) -> RequestHead {
        let bytes = format!("{line} HTTP/1.1\r\nHost: x\r\n\r\n");
        RequestHead::parse(Bytes::from(bytes), 999, crate::http::Fields::default()).unwrap()
    }

    #[test]
    fn the_first_route_that_matches_takes_the_request() {
        let table = build(None, &config(Members::Ready), &publish(Vec::<Endpoint>::new()), &[]);
        let caller = Caller { identity: None, certificate: None, address: [192, 0, 2, 1].into() };
        let route = |line| {
            table.listeners[0].route(&request(line), &caller).map(|permitted| permitted.route.config.name.to_string())
        };
        assert_eq!(route("PURGE /cache/a"), Ok("purge".into()));
        assert_eq!(route("PURGE /other"), Ok("rest".into()));
        assert_eq!(route("POST /cache/a"), Err(NoRoute::NotAllowed));
        assert_eq!(route("GET http://x"), Ok("rest".into()));
        assert_eq!(route("GET http://x?y"), Ok("rest".into()));
        assert_eq!(route("PURGE /cache/../x"), Err(NoRoute::Leaves("/cache/*".parse().unwrap())));
        assert_eq!(route("PURGE /x/../cache"), Ok("rest".into()));
    }

    #[test]
    fn control_is_granted_by_a_rule_for_the_caller_or_by_its_address() {
        let mut config = Config::clone(&config(Members::Ready));
        let listener = &mut config.listeners[0];
        let rules =
            ["/* by token:ci control", "GET /*", "PURGE /* by token:ops", "BAN /* by cidr:192.0.2.0/24 control"];
        listener.allow = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        listener.control_from = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let snapshot = publish(Vec::<Endpoint>::new());
        let may_control = |config: &Config, line: &str, identity: Option<&str>, address: &str| {
            let table = build(None, &Arc::new(config.clone()), &snapshot, &[]);
            let identity = identity.map(access::identity::Identity::token);
            let caller = Caller { identity, certificate: None, address: address.parse().unwrap() };
            table.listeners[0].route(&request(line), &caller).map(|permitted| permitted.may_control)
        };
        for (line, identity, address, expected) in [
            ("GET /x", Some("ci"), "198.51.100.1", Ok(true)),
            ("GET /x", None, "198.51.100.1", Ok(false)),
            ("GET /x", None, "10.0.0.1", Ok(true)),
            ("GET /x", None, "::ffff:10.0.0.1", Ok(true)),
            ("GET /x", None, "2001:db8::1", Ok(true)),
            ("PURGE /x", Some("ops"), "198.51.100.1", Ok(false)),
            ("PURGE /x", Some("ops"), "10.0.0.1", Ok(true)),
            ("BAN /x", None, "192.0.2.1", Ok(true)),
            ("PURGE /x", None, "10.0.0.1", Err(NoRoute::Unauthorized)),
        ] {
            assert_eq!(may_control(&config, line, identity, address), expected, "{line} {identity:?} {address}");
        }
        config.listeners[0].allow.clear();
        assert_eq!(may_control(&config, "PURGE /x", Some("ci"), "198.51.100.1"), Ok(false), "nobody was granted it");
        assert_eq!(may_control(&config, "PURGE /x", None, "10.0.0.1"), Ok(true));
    }

    #[test]
    fn members_ready_are_those_that_are_ready_and_known_adds_those_that_are_there_but_not_ready() {
        let terminating = Conditions { ready: false, serving: true, terminating: true };
        let snapshot =
            publish(vec![endpoint(1, Conditions::READY), endpoint(2, Conditions::NOT_READY), endpoint(3, terminating)]);
        let members = |which| {
            let table = build(None, &config(which), &snapshot, &[]);
            let members = table.listeners[0].routes[0].members.iter();
            members.map(|m| (m.endpoint.address.addresses()[0].ip().to_string(), m.is_ready)).collect::<Vec<_>>()
        };
        assert_eq!(members(Members::Ready), [("192.0.2.1".into(), true)]);
        assert_eq!(members(Members::Known), [("192.0.2.1".into(), true), ("192.0.2.2".into(), false)]);
    }

    #[test]
    fn a_route_without_a_member_knows_why() {
        let why = |snapshot: &Snapshot, bound: &[SocketAddr]| {
            build(None, &config(Members::Ready), snapshot, bound).listeners[0].routes[0].why_empty.to_string()
        };
        let ready = || endpoint(1, Conditions::READY);
        assert_eq!(why(&publish(vec![ready()]), &[]), "");
        assert_eq!(why(&channel().1.load(), &[]), "there is no list of its endpoints yet");
        assert_eq!(why(&publish(Vec::<Endpoint>::new()), &[]), "the list of its endpoints is empty");
        assert!(why(&publish(vec![ready()]), &[ready().address]).contains("this process itself (192.0.2.1:80)"));
        let asleep = [endpoint(1, Conditions::NOT_READY), endpoint(2, Conditions::NOT_READY)];
        assert_eq!(why(&publish(asleep.to_vec()), &[]), "none of its 2 known endpoints is ready");
        let (publisher, reader) = channel();
        publisher.apply([Change::Set(Arc::new(Cluster::empty(ClusterName::new("c").unwrap(), "no such Service")))]);
        assert_eq!(why(&reader.load(), &[]), "no such Service");
    }

    #[test]
    fn targets_stay_as_long_as_their_endpoint_and_are_shared_between_routes() {
        let config = config(Members::Ready);
        let one = build(None, &config, &publish(vec![endpoint(1, Conditions::READY)]), &[]);
        let two = [endpoint(1, Conditions::READY), endpoint(2, Conditions::READY)];
        let two = build(Some(&one), &config, &publish(two.to_vec()), &[]);
        assert!(Arc::ptr_eq(one.targets()[0], &two.listeners[0].routes[1].known[0]));
        assert_eq!(two.targets().len(), 2);
        assert!(Arc::ptr_eq(&one.listeners[0].routes[0].metrics, &two.listeners[0].routes[0].metrics));
    }

    #[test]
    fn a_change_of_one_cluster_makes_its_routes_and_its_target_anew_and_nothing_else() {
        let mut config = Config::clone(&config(Members::Ready));
        Arc::make_mut(&mut config.listeners[0].routes[1]).cluster = ClusterName::new("other").unwrap();
        let config = Arc::new(config);
        let (publisher, reader) = channel();
        let set = |name, endpoints| Change::Set(Arc::new(Cluster::new(ClusterName::new(name).unwrap(), endpoints)));
        let two = |first| vec![endpoint(1, first), endpoint(2, Conditions::READY)];
        publisher.apply([set("c", two(Conditions::READY)), set("other", two(Conditions::READY))]);
        let one = build(None, &config, &reader.load(), &[]);
        publisher.apply([set("c", two(Conditions::NOT_READY))]);
        let next = build(Some(&one), &config, &reader.load(), &[]);
        let [before, after] = [&one, &next].map(|table| table.listeners[0].routes.clone());
        assert!(!Arc::ptr_eq(&before[0], &after[0]) && Arc::ptr_eq(&before[1], &after[1]));
        let kept = before[0].known.iter().zip(&after[0].known).map(|(before, after)| Arc::ptr_eq(before, after));
        assert_eq!(kept.collect::<Vec<_>>(), [false, true]);
        assert!(Arc::ptr_eq(&after[0].known[1], &after[1].known[1]), "routes share it");
        assert!(
            after[0]
                .known
                .iter()
                .zip(after[0].cluster.as_ref().unwrap().endpoints())
                .all(|(target, endpoint)| *target.endpoint == **endpoint)
        );
        assert_eq!((after[0].members.len(), next.listeners[0].version), (1, reader.load().version()));
    }

    #[test]
    fn the_numbers_of_an_endpoint_go_on_while_it_is_the_same_pod() {
        let config = config(Members::Ready);
        let table = |previous: Option<&Table>, endpoint| build(previous, &config, &publish(vec![endpoint]), &[]);
        let share = |one: &Table, other: &Table| one.targets()[0].counts.is_same(&other.targets()[0].counts);
        let plain = endpoint(1, Conditions::READY);
        let one = table(None, plain.clone());
        let spoken = Endpoint { spoken: Spoken::AppProtocol(AppProtocol::H2c), ..plain };
        let two = table(Some(&one), spoken.clone());
        assert!(!Arc::ptr_eq(one.targets()[0], two.targets()[0]));
        assert!(share(&one, &two), "it is spoken to in another way");
        let asleep = table(Some(&two), Endpoint { conditions: Conditions::NOT_READY, ..spoken.clone() });
        assert!(share(&two, &asleep), "it has other conditions");
        let pod = PodRef { namespace: "a".into(), name: "b".into(), uid: "c".into() };
        let other = table(Some(&two), Endpoint { pod: Some(pod), ..spoken });
        assert!(!share(&two, &other), "it is another pod");
    }

    #[test]
    fn the_proxy_itself_is_no_target() {
        let own: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let other: SocketAddr = "127.0.0.1:8081".parse().unwrap();
        let snapshot = publish(vec![Endpoint::ready(own), Endpoint::ready(other)]);
        for bound in [own, "0.0.0.0:8080".parse().unwrap()] {
            let table = build(None, &config(Members::Ready), &snapshot, &[bound]);
            let route = &table.listeners[0].routes[0];
            assert_eq!((route.own.as_slice(), route.members.len()), ([own.into()].as_slice(), 1));
        }
    }
    #[test]
    fn a_name_that_does_not_resolve_is_a_member_whichever_count() {
        let gone = Endpoint::at(Place::unresolved("gone".into(), 80, "NXDOMAIN".into(), Recheck::default()));
        let there = Endpoint::from(endpoint(1, Conditions::READY));
        for which in [Members::Ready, Members::Known] {
            let table = build(None, &config(which), &publish(vec![gone.clone(), there.clone()]), &[]);
            let route = &table.listeners[0].routes[0];
            let members = route.members.iter().map(|m| (&**m.authority(), m.is_ready)).collect::<Vec<_>>();
            assert_eq!(members, [("192.0.2.1:80", true), ("gone:80", false)]);
            assert_eq!(route.without_endpoint(), None);
            let table = build(Some(&table), &config(which), &publish(vec![gone.clone()]), &[]);
            let why = table.listeners[0].routes[0].without_endpoint().unwrap();
            assert_eq!(why, "gone:80 does not resolve: NXDOMAIN");
        }
    }
}
