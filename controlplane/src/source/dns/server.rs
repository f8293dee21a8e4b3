//! A small DNS server for tests: real packets over loopback UDP and TCP, with answers that a test can change at any time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SOA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use runtime::readiness::Readiness;
use snapshot::{ClusterName, Place, Reader};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Resolver, Settings};

/// The time limit of a test's wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// The largest answer over UDP, in bytes; a larger one is truncated, so that the client has to ask again over TCP.
const MAX_UDP: usize = 512;

/// The server's answer for one name and record type.
#[derive(Clone, Debug)]
pub(in crate::source) enum Reply {
    /// These records, with this TTL in seconds.
    Records(Vec<RData>, u32),
    /// An alias with its TTL, followed by records of the alias with theirs.
    Alias(&'static str, u32, Vec<RData>, u32),
    /// The name exists, without records of this type; an SOA record with this negative TTL.
    NoData(u32),
    /// The name does not exist; an SOA record with this negative TTL.
    NxDomain(u32),
    /// An error code.
    Code(ResponseCode),
    /// No answer at all.
    Silence,
    /// Bytes that are not a DNS message.
    Garbage,
}

/// The running server; it ends when dropped.
pub(in crate::source) struct Server {
    addr: SocketAddr,
    shared: Arc<ServerState>,
    tasks: Vec<JoinHandle<()>>,
}

struct ServerState {
    zone: watch::Sender<HashMap<(String, RecordType), Reply>>,
    asked: watch::Sender<Vec<(String, RecordType)>>,
}

pub(in crate::source) fn v4(list: &[[u8; 4]]) -> Vec<RData> {
    list.iter().map(|ip| RData::A(A((*ip).into()))).collect()
}

pub(in crate::source) fn v6(list: &[&str]) -> Vec<RData> {
    list.iter().map(|ip| RData::AAAA(AAAA(ip.parse().unwrap()))).collect()
}

pub(in crate::source) fn srv(list: &[(&str, u16)]) -> Vec<RData> {
    list.iter().map(|(target, port)| RData::SRV(SRV::new(0, 0, *port, Name::from_ascii(target).unwrap()))).collect()
}

/// A place in the notation of tests: an address; or a name with its addresses, or with `?` if it does not resolve.
fn shown(place: &Place) -> String {
    match (place, place.addresses()) {
        (Place::Address(_) | Place::Found(_), _) => place.to_string(),
        (Place::Name(_), []) => format!("{place}=?"),
        (Place::Name(_), addresses) => {
            let ips: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            format!("{place}={}", ips.join("+"))
        }
    }
}

/// The endpoints of a cluster as text, in order; `None` while there is no such cluster.
pub(in crate::source) fn addresses(reader: &Reader, cluster: &str) -> Option<Vec<String>> {
    let snapshot = reader.load();
    let cluster = snapshot.cluster(cluster)?;
    Some(cluster.endpoints().iter().map(|endpoint| shown(&endpoint.address)).collect())
}

/// Waits until the cluster has exactly these endpoints.
pub(in crate::source) async fn wait_for(reader: &Reader, cluster: &str, expected: &[&str]) {
    let mut waiting = reader.clone();
    let arrives = async {
        loop {
            let sequence = waiting.load().version().sequence;
            if addresses(&waiting, cluster).is_some_and(|now| now == expected) {
                return;
            }
            waiting.newer_than(sequence).await.unwrap();
        }
    };
    if tokio::time::timeout(PATIENCE, arrives).await.is_err() {
        panic!("{cluster} should become {expected:?}, it is {:?}", addresses(reader, cluster));
    }
}

/// Waits until readiness is as asked; the reason has to contain `part`.
pub(in crate::source) async fn wait_not_ready(readiness: &Readiness, part: &str) {
    let shows = async {
        while !readiness.check().is_err_and(|why| why.contains(part)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, shows).await.is_err() {
        panic!("readiness should say {part:?}, it says {:?}", readiness.check());
    }
}

pub(in crate::source) async fn wait_ready(readiness: &Readiness) {
    if tokio::time::timeout(PATIENCE, readiness.ready()).await.is_err() {
        panic!("should be ready: {:?}", readiness.check());
    }
}

pub(in crate::source) fn cluster() -> ClusterName {
    ClusterName::new("c").unwrap()
}

// === impl Server ===

impl Server {
    pub(in crate::source) async fn start() -> Self {
        let (udp, tcp) = bind().await;
        let addr = udp.local_addr().unwrap();
        let shared =
            Arc::new(ServerState { zone: watch::Sender::new(HashMap::new()), asked: watch::Sender::new(Vec::new()) });
        let tasks =
            vec![tokio::spawn(serve_udp(udp, Arc::clone(&shared))), tokio::spawn(serve_tcp(tcp, Arc::clone(&shared)))];
        Self { addr, shared, tasks }
    }

    /// Changes the answer for the absolute `name`; names that were never set do not exist.
    pub(in crate::source) fn set(&self, name: &str, record: RecordType, reply: Reply) {
        self.shared.zone.send_modify(|zone| {
            zone.insert((name.to_owned(), record), reply);
        });
    }

    /// Sets the A records, and that there are no AAAA records.
    pub(in crate::source) fn set_v4(&self, name: &str, list: &[[u8; 4]], ttl: u32) {
        self.set(name, RecordType::AAAA, Reply::NoData(ttl));
        self.set(name, RecordType::A, Reply::Records(v4(list), ttl));
    }

    /// The number of queries for a name and type.
    pub(in crate::source) fn asked(&self, name: &str, record: RecordType) -> usize {
        self.shared.asked.borrow().iter().filter(|(n, r)| n == name && *r == record).count()
    }

    /// Waits for `more` further queries for a name and type.
    pub(in crate::source) async fn wait_asked(&self, name: &str, record: RecordType, more: usize) {
        let goal = self.asked(name, record) + more;
        let mut asked = self.shared.asked.subscribe();
        let reached = asked.wait_for(|list| list.iter().filter(|(n, r)| n == name && *r == record).count() >= goal);
        let reached = tokio::time::timeout(PATIENCE, reached).await.is_ok();
        assert!(reached, "{name} {record} was asked for {} times, not {goal}", self.asked(name, record));
    }

    /// A client of this server alone.
    pub(in crate::source) fn client(&self, search: &[&str], ndots: usize) -> Resolver {
        self.client_with(search, ndots, Settings { max_ttl: Duration::from_secs(3600), ..Settings::default() })
    }

    /// A client that waits for an answer for ever.
    pub(in crate::source) fn patient_client(&self) -> Resolver {
        self.client_of(&[], 1, Settings::default(), Duration::from_secs(3600))
    }

    /// A client of this server alone, with these settings.
    pub(in crate::source) fn client_with(&self, search: &[&str], ndots: usize, settings: Settings) -> Resolver {
        self.client_of(search, ndots, settings, Duration::from_millis(300))
    }

    fn client_of(&self, search: &[&str], ndots: usize, settings: Settings, timeout: Duration) -> Resolver {
        let on_port = |mut connection: ConnectionConfig| {
            connection.port = self.addr.port();
            connection
        };
        let connections = vec![on_port(ConnectionConfig::udp()), on_port(ConnectionConfig::tcp())];
        let server = NameServerConfig::new(self.addr.ip(), true, connections);
        let search = search.iter().map(|domain| Name::from_ascii(domain).unwrap()).collect();
        let mut options = ResolverOpts::default();
        options.ndots = ndots;
        options.timeout = timeout;
        options.attempts = 0;
        Resolver::new(ResolverConfig::from_parts(None, search, vec![server]), options, settings)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// One free port for both protocols.
async fn bind() -> (UdpSocket, TcpListener) {
    for _ in 0..50 {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both UDP and TCP on 127.0.0.1");
}

async fn serve_udp(socket: UdpSocket, shared: Arc<ServerState>) {
    let mut buffer = [0; 4096];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).await.unwrap();
        let Some((answer, head)) = shared.answer(&buffer[..length]) else { continue };
        let packet = if answer.len() > MAX_UDP { head } else { answer };
        let _ = socket.send_to(&packet, peer).await;
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<ServerState>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(serve_stream(stream, Arc::clone(&shared)));
    }
}

async fn serve_stream(mut stream: TcpStream, shared: Arc<ServerState>) -> std::io::Result<()> {
    loop {
        let mut query = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut query).await?;
        if let Some((answer, _)) = shared.answer(&query) {
            stream.write_u16(answer.len().try_into().unwrap()).await?;
            stream.write_all(&answer).await?;
        }
    }
}

impl ServerState {
    /// The answer, and its truncated form.
    fn answer(&self, query: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let query = Message::from_vec(query).unwrap();
        let question = query.queries.first().unwrap().clone();
        let key = (question.name().to_lowercase().to_ascii(), question.query_type());
        // Read before the query is counted, so that a test that waits for the count and then changes the zone does not change this
        // answer.
        let reply = self.zone.borrow().get(&key).cloned().unwrap_or(Reply::NxDomain(1));
        self.asked.send_modify(|asked| asked.push(key));
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.recursion_desired = true;
        answer.metadata.recursion_available = true;
        answer.add_query(question.clone());
        let name = question.name();
        let soa = |ttl| {
            let root = Name::root();
            Record::from_rdata(root.clone(), ttl, RData::SOA(SOA::new(root.clone(), root, 1, 60, 60, 60, ttl)))
        };
        match reply {
            Reply::Records(records, ttl) => {
                answer.answers = records.into_iter().map(|data| Record::from_rdata(name.clone(), ttl, data)).collect();
            }
            Reply::Alias(alias, alias_ttl, records, ttl) => {
                let alias = Name::from_ascii(alias).unwrap();
                answer.add_answer(Record::from_rdata(name.clone(), alias_ttl, RData::CNAME(CNAME(alias.clone()))));
                answer.answers.extend(records.into_iter().map(|data| Record::from_rdata(alias.clone(), ttl, data)));
            }
            Reply::NoData(ttl) => answer.authorities.push(soa(ttl)),
            Reply::NxDomain(ttl) => {
                answer.metadata.response_code = ResponseCode::NXDomain;
                answer.authorities.push(soa(ttl));
            }
            Reply::Code(code) => answer.metadata.response_code = code,
            Reply::Silence => return None,
            Reply::Garbage => return Some((b"not a message".to_vec(), b"not a message".to_vec())),
        }
        let whole = answer.to_vec().unwrap();
        answer.answers.clear();
        answer.metadata.truncation = true;
        Some((whole, answer.to_vec().unwrap()))
    }
}

/// The addresses as an endpoint list shows them.
pub(in crate::source) fn on_port(ips: &[&str], port: u16) -> Vec<String> {
    ips.iter().map(|ip| SocketAddr::new(ip.parse::<IpAddr>().unwrap(), port).to_string()).collect()
}
