//! `--endpoints-dns`: against a real DNS server, in a network namespace where port 53 and `/etc/resolv.conf` are ours.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use testkit::{
    client, netns,
    origin::{Origin, Reply},
};
use tokio::{net::UdpSocket, process::Command, sync::watch};

use crate::process::Fanfare;

/// A DNS server that knows the A records of one name, with a TTL of 1 s.
struct Dns {
    answers: Arc<watch::Sender<Vec<Ipv4Addr>>>,
}

const NAME: &[u8] = b"\x05cache\x07example\0";

impl Dns {
    async fn start(addresses: &[Ipv4Addr]) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:53").await.expect("port 53 of the namespace is free");
        let answers = Arc::new(watch::Sender::new(addresses.to_vec()));
        let current = answers.clone();
        tokio::spawn(async move {
            let mut packet = [0; 512];
            while let Ok((length, peer)) = socket.recv_from(&mut packet).await {
                let answer = answer(&packet[..length], &current.borrow());
                let _ = socket.send_to(&answer, peer).await;
            }
        });
        Self { answers }
    }

    fn set(&self, addresses: &[Ipv4Addr]) {
        self.answers.send_replace(addresses.to_vec());
    }
}

/// RFC 1035 section 4: the header, the question as it came, and the answers with names that point at the question's.
fn answer(query: &[u8], addresses: &[Ipv4Addr]) -> Vec<u8> {
    let name_end = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name ends with the root") + 1;
    let question = &query[12..name_end + 4];
    let known = question.starts_with(NAME);
    let is_a = question[question.len() - 4..question.len() - 2] == [0, 1];
    let records = if known && is_a { addresses } else { &[] };
    let code = if known { 0 } else { 3 };
    let mut packet = query[..2].to_vec();
    packet.extend([0x84 | (query[2] & 1), 0x80 | code, 0, 1, 0, records.len() as u8, 0, 0, 0, 0]);
    packet.extend(question);
    for address in records {
        packet.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        packet.extend(address.octets());
    }
    packet
}

#[test]
fn every_address_of_a_name_gets_the_request_and_changes_are_followed() {
    netns::inside(testkit::test_name!(), async || {
        let (one, two) = (Ipv4Addr::new(192, 0, 2, 11), Ipv4Addr::new(192, 0, 2, 12));
        let origin = |address: Ipv4Addr| {
            Origin::builder().address(&format!("{address}:8000")).start(Reply::ok(address.to_string()))
        };
        let origins = [origin(one), origin(two)];
        let dns = Dns::start(&[one]).await;
        let resolv = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(resolv.path(), "nameserver 127.0.0.1\noptions timeout:1\n").expect("it can be written");

        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "mount --bind \"$1\" /etc/resolv.conf && shift && exec \"$@\"", "sh"]);
        command.arg(resolv.path()).arg(env!("CARGO_BIN_EXE_fanfare"));
        command.args(["broadcast", "-i", "127.0.0.1:0", "-m", "127.0.0.1:0", "--endpoints-dns", "cache.example.:8000"]);
        command.env_remove("KUBECONFIG");
        let mut fanfare = Fanfare::spawn(command);
        fanfare.wait_listening().await;
        fanfare.wait_ready().await;

        let address: SocketAddr = fanfare.address();
        assert_eq!(client::get(address, "/").await.complete().text(), one.to_string());
        dns.set(&[one, two]);
        let second = async || {
            client::get(address, "/both").await.complete().expect_status(200);
            origins[1].requests().len()
        };
        testkit::eventually!("the second address", second().await, |requests| *requests > 0);
        dns.set(&[two]);
        let answer = async || client::get(address, "/").await.complete().text();
        testkit::eventually!("the first address to be gone", answer().await, |text| *text == two.to_string());
    });
}
