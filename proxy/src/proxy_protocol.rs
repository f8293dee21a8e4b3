//! The PROXY protocol, versions 1 and 2: what a load balancer says in front of a connection about whom it is for.
//!
//! The parser does no I/O, is strict, and never needs more than [`MAX_HEADER`] bytes. It follows the specification of HAProxy: what is
//! valid but means nothing here (UDP, Unix sockets, `UNKNOWN`, `LOCAL`) leaves the addresses of the connection as they are.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// The longest header of version 1, its line end included.
const MAX_V1: usize = 107;

/// The longest header that is taken, in bytes: version 2 may be longer, but only with extensions that nobody sends.
pub const MAX_HEADER: usize = 4096;

/// How version 1 begins.
const V1: &[u8] = b"PROXY ";

/// How version 2 begins.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// What follows the beginning of version 2: version and command, family and protocol, length.
const V2_FIXED: usize = V2.len() + 4;

/// What the front of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// More bytes are needed to tell.
    Partial,
    /// It is no header of this protocol: the first byte belongs to the request.
    Absent,
    /// A whole header.
    Header(Header),
}

/// A header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// How many bytes it has: what follows belongs to the request.
    pub length: usize,
    /// Whom the connection is for and where it arrived; none where the addresses of the connection itself count.
    pub addresses: Option<Addresses>,
}

/// Both ends of the connection that the load balancer has accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What the client has connected to.
    pub destination: SocketAddr,
}

/// Why a header is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// Version 1: no line end within 107 bytes.
    Line,
    /// Version 1: it is not `PROXY`, a protocol, two addresses and two ports, with one space between.
    Malformed,
    /// Version 2: a version, command, family or protocol that there is not.
    Unknown,
    /// Version 2: too short for its addresses.
    Short,
    /// Version 2: longer than [`MAX_HEADER`].
    Long,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Line => "the PROXY header (version 1) has no line end within 107 bytes",
            Self::Malformed => "the PROXY header (version 1) is malformed",
            Self::Unknown => {
                "the PROXY header (version 2) has a version, command, family or protocol that there is not"
            }
            Self::Short => "the PROXY header (version 2) is too short for its addresses",
            Self::Long => "the PROXY header (version 2) is longer than 4096 bytes",
        })
    }
}

impl std::error::Error for HeaderError {}

/// Looks at the first bytes of a connection.
///
/// # Errors
/// They begin like a header and are none.
pub fn parse(input: &[u8]) -> Result<Front, HeaderError> {
    let begins = |signature: &[u8]| {
        let common = signature.len().min(input.len());
        (input[..common] == signature[..common]).then_some(common == signature.len())
    };
    match (begins(V1), begins(V2)) {
        (Some(true), _) => version_1(input),
        (_, Some(true)) => version_2(input),
        (None, None) => Ok(Front::Absent),
        _ => Ok(Front::Partial),
    }
}

fn version_1(input: &[u8]) -> Result<Front, HeaderError> {
    let line = &input[..input.len().min(MAX_V1)];
    let Some(end) = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if input.len() < MAX_V1 { Ok(Front::Partial) } else { Err(HeaderError::Line) };
    };
    match line[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if input.len() < MAX_V1 => return Ok(Front::Partial),
        [b'\r'] => return Err(HeaderError::Line),
        _ => return Err(HeaderError::Malformed),
    }
    let text = std::str::from_utf8(&line[V1.len()..end]).map_err(|_| HeaderError::Malformed)?;
    let mut words = text.split(' ');
    let addresses = match words.next() {
        // Whatever follows is to be ignored.
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(line_addresses::<Ipv4Addr>(words)?),
        Some("TCP6") => Some(line_addresses::<Ipv6Addr>(words)?),
        _ => return Err(HeaderError::Malformed),
    };
    Ok(Front::Header(Header { length: end + 2, addresses }))
}

fn line_addresses<'a, A>(mut words: impl Iterator<Item = &'a str>) -> Result<Addresses, HeaderError>
where
    A: std::str::FromStr + Into<IpAddr>,
{
    let mut address = || words.next().and_then(|word| word.parse::<A>().ok()).map(Into::into);
    let (source, destination) = (address(), address());
    let mut port = || words.next().and_then(port);
    let (source_port, destination_port) = (port(), port());
    match (source, destination, source_port, destination_port, words.next()) {
        (Some(source), Some(destination), Some(source_port), Some(destination_port), None) => Ok(Addresses {
            source: SocketAddr::new(source, source_port),
            destination: SocketAddr::new(destination, destination_port),
        }),
        _ => Err(HeaderError::Malformed),
    }
}

/// A decimal number without sign and without zeros in front.
fn port(word: &str) -> Option<u16> {
    let plain = word.bytes().all(|byte| byte.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
    plain.then(|| word.parse().ok()).flatten()
}

fn version_2(input: &[u8]) -> Result<Front, HeaderError> {
    let Some(fixed) = input.get(V2.len()..V2_FIXED) else {
        // What is wrong already is not waited for.
        return match input.get(V2.len()) {
            Some(version) if !matches!(version, 0x20 | 0x21) => Err(HeaderError::Unknown),
            _ => Ok(Front::Partial),
        };
    };
    let (command, kind) = (fixed[0], fixed[1]);
    let announced = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(HeaderError::Unknown),
    };
    // The family in the upper half: none, IPv4, IPv6, Unix; the protocol in the lower one: none, stream, datagram.
    if !local && (kind >> 4 > 3 || kind & 0xf > 2) {
        return Err(HeaderError::Unknown);
    }
    let needed = match kind {
        0x11 if !local => 12,
        0x21 if !local => 36,
        _ => 0,
    };
    let length = V2_FIXED + announced;
    if announced < needed {
        return Err(HeaderError::Short);
    }
    if length > MAX_HEADER {
        return Err(HeaderError::Long);
    }
    let Some(body) = input.get(V2_FIXED..length) else { return Ok(Front::Partial) };
    let addresses = match (needed, body) {
        (12, body) => block::<4>(body),
        (36, body) => block::<16>(body),
        _ => None,
    };
    Ok(Front::Header(Header { length, addresses }))
}

/// Two addresses of `N` bytes each and two ports; what follows are extensions.
fn block<const N: usize>(body: &[u8]) -> Option<Addresses>
where
    [u8; N]: Into<IpAddr>,
{
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk::<2>()?;
    let (destination_port, _) = rest.split_first_chunk::<2>()?;
    let end = |address: &[u8; N], port: &[u8; 2]| SocketAddr::new((*address).into(), u16::from_be_bytes(*port));
    Some(Addresses { source: end(source, source_port), destination: end(destination, destination_port) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(length: usize, addresses: Option<(&str, &str)>) -> Result<Front, HeaderError> {
        let parse = |text: &str| text.parse().unwrap();
        let addresses = addresses.map(|(s, d)| Addresses { source: parse(s), destination: parse(d) });
        Ok(Front::Header(Header { length, addresses }))
    }

    /// A header of version 2.
    fn v2(command: u8, kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [V2, &[command, kind], &length, body].concat()
    }

    #[test]
    fn lines_of_version_1() {
        for (line, addresses) in [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1 65535\r\n", Some(("192.0.2.1:1", "192.0.2.2:65535"))),
            ("PROXY TCP6 2001:db8::1 ::1 40000 443\r\n", Some(("[2001:db8::1]:40000", "[::1]:443"))),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:f...f:ffff 1 2 what ever\r\n", None),
        ] {
            assert_eq!(parse(line.as_bytes()), header(line.len(), addresses), "{line}");
            assert_eq!(parse(format!("{line}GET / HTTP/1.1\r\n").as_bytes()), header(line.len(), addresses), "{line}");
        }
    }

    #[test]
    fn lines_that_are_not_exactly_right_are_refused() {
        for line in [
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 65536\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP4 ::1 ::1 1 2\r\n",
            "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY tcp4 192.0.2.1 192.0.2.2 1 2\r\n",
            "PROXY UNKNOWN\n",
            "PROXY UNKNOWN\rX",
            "PROXY \r\n",
            "PROXY UNKNOWNX\r\n",
        ] {
            assert_eq!(parse(line.as_bytes()), Err(HeaderError::Malformed), "{line}");
        }
        let (fits, long) =
            (format!("PROXY UNKNOWN {}\r\n", "x".repeat(91)), format!("PROXY UNKNOWN {}", "x".repeat(93)));
        assert_eq!((fits.len(), long.len()), (MAX_V1, MAX_V1));
        assert_eq!(parse(fits.as_bytes()), header(MAX_V1, None));
        assert_eq!(parse(long.as_bytes()), Err(HeaderError::Line));
        assert_eq!(parse(format!("{}\r", &long[..MAX_V1 - 1]).as_bytes()), Err(HeaderError::Line));
    }

    #[test]
    fn blocks_of_version_2() {
        let four = [192, 0, 2, 1, 192, 0, 2, 2, 0, 1, 1, 0];
        let six = [Ipv6Addr::LOCALHOST.octets(), Ipv6Addr::UNSPECIFIED.octets()].concat();
        let six = [&six[..], &[0, 1, 0, 2]].concat();
        let addresses = Some(("192.0.2.1:1", "192.0.2.2:256"));
        assert_eq!(parse(&v2(0x21, 0x11, &four)), header(28, addresses));
        assert_eq!(parse(&v2(0x21, 0x11, &[&four[..], &[4, 0, 1, 9]].concat())), header(32, addresses), "an extension");
        assert_eq!(parse(&v2(0x21, 0x21, &six)), header(52, Some(("[::1]:1", "[::]:2"))));
        // Valid, and nothing to go by.
        for (command, kind) in [(0x20, 0x11), (0x20, 0xff), (0x21, 0), (0x21, 0x12), (0x21, 0x31), (0x21, 0x10)] {
            assert_eq!(parse(&v2(command, kind, &four)), header(28, None), "{command:#x} {kind:#x}");
        }
        assert_eq!(parse(&v2(0x20, 0, &[])), header(16, None));
    }

    #[test]
    fn blocks_that_are_not_exactly_right_are_refused() {
        for (command, kind) in [(0x11, 0x11), (0x22, 0x11), (0x31, 0x11), (0x21, 0x41), (0x21, 0x13)] {
            assert_eq!(parse(&v2(command, kind, &[0; 12])), Err(HeaderError::Unknown), "{command:#x} {kind:#x}");
        }
        assert_eq!(parse(&[V2, &[0x11]].concat()), Err(HeaderError::Unknown));
        assert_eq!(parse(&v2(0x21, 0x11, &[0; 11])), Err(HeaderError::Short));
        assert_eq!(parse(&v2(0x21, 0x21, &[0; 35])), Err(HeaderError::Short));
        // What is too long is refused as soon as it is announced.
        assert_eq!(parse(&v2(0x21, 0x11, &[0; MAX_HEADER - 15])[..V2_FIXED]), Err(HeaderError::Long));
        assert!(matches!(parse(&v2(0x21, 0x11, &[0; MAX_HEADER - 16])), Ok(Front::Header(_))));
    }

    #[test]
    fn other_data_are_distinguished_from_a_header_as_soon_as_possible() {
        for absent in ["G", "PO", "PROXX", "PROXYING ", "\r\n\r\n\r", "\x16\x03\x01"] {
            assert_eq!(parse(absent.as_bytes()), Ok(Front::Absent), "{absent:?}");
        }
        for partial in [
            "",
            "P",
            "PROXY",
            "PROXY ",
            "PROXY TCP4 1",
            "PROXY UNKNOWN\r",
            "\r",
            "\r\n\r\n\0\r\nQUIT",
            "\r\n\r\n\0\r\nQUIT\n",
        ] {
            assert_eq!(parse(partial.as_bytes()), Ok(Front::Partial), "{partial:?}");
        }
    }

    proptest! {
        #[test]
        fn every_pair_of_addresses_is_read_back(source: SocketAddr, destination: SocketAddr, rest: Vec<u8>) {
            let (source, destination) = match (source, destination) {
                (SocketAddr::V6(s), SocketAddr::V6(d)) => (
                    SocketAddr::new((*s.ip()).into(), s.port()),
                    SocketAddr::new((*d.ip()).into(), d.port()),
                ),
                (s, d) if s.is_ipv4() == d.is_ipv4() => (s, d),
                (s, d) => (SocketAddr::from(([192, 0, 2, 1], s.port())), SocketAddr::from(([192, 0, 2, 2], d.port()))),
            };
            let four = source.is_ipv4();
            let octets = |address: IpAddr| match address {
                IpAddr::V4(four) => four.octets().to_vec(),
                IpAddr::V6(six) => six.octets().to_vec(),
            };
            let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
            let body = [octets(source.ip()), octets(destination.ip()), ports].concat();
            let block = v2(0x21, if four { 0x11 } else { 0x21 }, &body);
            let (ip, to) = (source.ip(), destination.ip());
            let line = format!("PROXY TCP{} {ip} {to} {} {}\r\n", if four { 4 } else { 6 }, source.port(), destination.port());
            for written in [line.into_bytes(), block] {
                let expected = Header { length: written.len(), addresses: Some(Addresses { source, destination }) };
                prop_assert_eq!(parse(&[&written[..], &rest].concat()), Ok(Front::Header(expected)));
                for end in 0..written.len() {
                    prop_assert_eq!(parse(&written[..end]), Ok(Front::Partial));
                }
            }
        }

        #[test]
        fn the_result_for_a_prefix_stays_true_with_more_bytes(
            begin in prop_oneof![Just(V1), Just(V2), Just(b"PROXY TCP4 1.2.3.4 ".as_slice()), Just(b"".as_slice())],
            rest in proptest::collection::vec(prop_oneof![any::<u8>(), 0x20..0x3au8, Just(b'\r'), Just(b'\n')], 0..200),
        ) {
            let input = [begin, &rest].concat();
            let whole = parse(&input);
            for end in 0..input.len() {
                let part = parse(&input[..end]);
                prop_assert!(part == Ok(Front::Partial) || part == whole, "{:?} at {}, then {:?}", part, end, whole);
            }
            if let Ok(Front::Header(header)) = whole {
                prop_assert!(header.length <= input.len().min(MAX_HEADER));
            }
        }
    }
}
