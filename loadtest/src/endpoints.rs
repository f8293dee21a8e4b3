//! The endpoints of a turn: their addresses, their counts of copies, and special ones: slow, silent, unreachable, restarting.

mod http2;
mod nginx;
mod server;

use std::{fmt, net::SocketAddr, path::Path, time::Duration};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

pub(crate) use server::serve;

use self::nginx::Nginx;
use crate::{cli::Kind, process::Helper, protocols::Http};

/// The time limit of an answer to the harness.
const PATIENCE: Duration = Duration::from_secs(30);

/// The special behaviour of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Special {
    /// Answers after this number of milliseconds.
    Slow(u64),
    /// Accepts requests and never answers.
    Silent,
    /// SYNs to it are dropped, so that connection attempts never end.
    Dropped,
    /// It refuses connections.
    Refused,
}

/// A command of the harness to its endpoints.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Control {
    /// Print the counts.
    Count,
    /// Stop this endpoint: its listener and its connections are closed.
    Stop(usize),
    /// Start this endpoint again at its address.
    Start(usize),
}

/// The requests that endpoints have received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Whole requests by endpoint, or one number for all if the endpoints are not counted separately.
    pub(crate) copies: Vec<u64>,
    /// Bytes of request bodies.
    pub(crate) bytes: u64,
}

/// Running endpoints.
#[derive(Debug)]
pub(crate) struct EndpointServers {
    /// Their addresses, in order.
    pub(crate) addresses: Vec<SocketAddr>,
    server: Server,
}

#[derive(Debug)]
enum Server {
    Own(Helper),
    Nginx(Nginx),
}

impl EndpointServers {
    /// Starts `count` endpoints on these cores. Only the harness's own can be special, or speak HTTP/2.
    pub(crate) fn start(
        kind: Kind,
        count: usize,
        (special, http): (&[(usize, Special)], Http),
        work: &Path,
        on: &[usize],
    ) -> anyhow::Result<Self> {
        if kind == Kind::Nginx && special.is_empty() && http == Http::One {
            let (nginx, addresses) = Nginx::start(count, work, on)?;
            return Ok(Self { addresses, server: Server::Nginx(nginx) });
        }
        let mut arguments = vec!["endpoints".to_owned(), "--count".into(), count.to_string()];
        for (index, special) in special {
            arguments.extend(["--special".to_owned(), format!("{index}:{special}")]);
        }
        let helper = Helper::start(&arguments, on)?;
        let addresses = helper.hear(PATIENCE).context("endpoints do not start")?;
        Ok(Self { addresses, server: Server::Own(helper) })
    }

    /// The counts so far.
    pub(crate) fn counts(&mut self) -> anyhow::Result<Counts> {
        match &mut self.server {
            Server::Own(helper) => {
                helper.tell(&Control::Count)?;
                helper.hear(PATIENCE)
            }
            Server::Nginx(nginx) => nginx.counts(),
        }
    }

    /// Stops or starts one.
    pub(crate) fn control(&mut self, control: Control) -> anyhow::Result<()> {
        match &mut self.server {
            Server::Own(helper) => {
                helper.tell(&control)?;
                helper.hear::<bool>(PATIENCE).map(|_| ())
            }
            Server::Nginx(_) => anyhow::bail!("nginx endpoints cannot be controlled one by one"),
        }
    }
}

impl Counts {
    /// The total number of copies.
    pub(crate) fn total(&self) -> u64 {
        self.copies.iter().sum()
    }

    /// The difference to `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let copies = self.copies.iter().zip(&before.copies).map(|(now, then)| now - then).collect();
        Self { copies, bytes: self.bytes - before.bytes }
    }
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slow(ms) => write!(f, "slow:{ms}"),
            Self::Silent => f.write_str("silent"),
            Self::Dropped => f.write_str("dropped"),
            Self::Refused => f.write_str("refused"),
        }
    }
}

impl std::str::FromStr for Special {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "silent" => Ok(Self::Silent),
            "dropped" => Ok(Self::Dropped),
            "refused" => Ok(Self::Refused),
            _ => {
                let ms = text.strip_prefix("slow:").context("not slow:<ms>, silent, dropped or refused")?;
                Ok(Self::Slow(ms.parse().context("not a number of milliseconds")?))
            }
        }
    }
}
