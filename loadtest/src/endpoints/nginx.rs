//! nginx as the endpoints: one process, one listener for each, three bytes of answer.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use super::Counts;
use crate::{process::Kept, subject};

/// The time limit of a start.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// A running nginx.
#[derive(Debug)]
pub(crate) struct Nginx {
    _process: Kept,
    status: SocketAddr,
    /// The harness's own requests, which nginx counts as well.
    asked: u64,
}

impl Nginx {
    /// Starts one with `count` listeners.
    pub(crate) fn start(count: usize, work: &Path, on: &[usize]) -> anyhow::Result<(Self, Vec<SocketAddr>)> {
        let program = subject::nginx::program().map_err(anyhow::Error::msg)?;
        let ports = subject::free_ports(count + 1)?;
        let (status, ports) = ports.split_first().context("one more than none")?;
        let mut servers = String::new();
        for port in ports {
            writeln!(
                servers,
                "  server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ return 200 \"ok\\n\"; }} }}"
            )?;
        }
        writeln!(servers, "  server {{ listen 127.0.0.1:{status}; location / {{ stub_status; }} }}")?;
        let command = subject::nginx::command(&program, &work.join("nginx-endpoints"), 1, &servers)?;
        let process = Kept::start(&command, &work.join("nginx-endpoints.log"), None, on)?;
        let at = |port: &u16| SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        let mut nginx = Self { _process: process, status: at(status), asked: 0 };
        let until = Instant::now() + START_TIMEOUT;
        while let Err(error) = nginx.counts() {
            if Instant::now() > until {
                return Err(error.context("nginx does not start"));
            }
            nginx.asked = 0;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok((nginx, ports.iter().map(at).collect()))
    }

    /// The total number of requests so far.
    pub(crate) fn counts(&mut self) -> anyhow::Result<Counts> {
        let mut stream = TcpStream::connect(self.status)?;
        stream.set_read_timeout(Some(START_TIMEOUT))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        self.asked += 1;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        // "server accepts handled requests", and the three numbers on the next line.
        let numbers = text.split("requests").nth(1).context("no status page")?;
        let requests = numbers.split_ascii_whitespace().nth(2).context("no number of requests")?;
        let requests: u64 = requests.parse().context("not a number of requests")?;
        Ok(Counts { copies: vec![requests.saturating_sub(self.asked)], bytes: 0 })
    }
}
