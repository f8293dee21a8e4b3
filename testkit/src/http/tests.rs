//! The strict reading of heads and bodies, against bytes written by hand.

use super::*;

fn decode(framing: Framing, input: &[u8], piece: usize) -> (Vec<u8>, usize, Result<bool, String>) {
    let mut decoder = BodyDecoder::new(framing);
    let (mut data, mut taken) = (Vec::new(), 0);
    for part in input.chunks(piece) {
        match decoder.feed(part, &mut data) {
            Ok(n) => taken += n,
            Err(why) => return (data, taken, Err(why)),
        }
    }
    (data, taken, Ok(decoder.is_done()))
}

#[test]
fn bodies_are_decoded_alike_however_they_are_cut() {
    let cases: [(Framing, &[u8], &[u8], usize); 6] = [
        (Framing::Empty, b"GET /", b"", 0),
        (Framing::Length(5), b"helloGET /", b"hello", 5),
        (Framing::Chunked, b"5\r\nhello\r\n0\r\n\r\nGET", b"hello", 15),
        (Framing::Chunked, b"00A;x=\"y\"\r\n0123456789\r\n1\r\n!\r\n0\r\nA: b\r\nC: d\r\n\r\n", b"0123456789!", 46),
        (Framing::Chunked, b"0\r\n\r\n", b"", 5),
        (Framing::Close, b"anything", b"anything", 8),
    ];
    for (framing, input, body, length) in cases {
        for piece in 1..=input.len() {
            let (data, taken, done) = decode(framing, input, piece);
            assert_eq!(printable(&data, 99), printable(body, 99), "{framing:?} by {piece}");
            assert_eq!(taken, length, "{framing:?} by {piece}");
            assert_eq!(done, Ok(framing != Framing::Close), "{framing:?} by {piece}");
        }
    }
}

#[test]
fn trailers_are_kept() {
    let mut decoder = BodyDecoder::new(Framing::Chunked);
    let fed = decoder.feed(b"0\r\nX-Sum: 1\r\nx-sum: 2\r\n\r\n", &mut Vec::new());
    assert_eq!(fed, Ok(25));
    assert_eq!(decoder.trailers().all("X-SUM"), ["1", "2"]);
}

#[test]
fn an_unfinished_body_is_not_done() {
    for input in ["5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\n\r", "5\r\nhell", "5\r\nhello", ""] {
        let (_, _, done) = decode(Framing::Chunked, input.as_bytes(), 64);
        assert_eq!(done, Ok(false), "{input:?}");
    }
    assert_eq!(decode(Framing::Length(6), b"hello", 64).2, Ok(false));
}

#[test]
fn broken_chunks_are_faults_and_keep_what_came_before() {
    for bad in [
        "\r\n",
        "g\r\n",
        "0x5\r\n",
        "-1\r\n",
        " 5\r\n",
        "5 \r\n",
        "5\nhello",
        "5\rhello",
        "5\r\nhello0\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "0\r\nno colon\r\n\r\n",
        "0\r\nA: b\n\r\n",
        "0\r\n A: b\r\n\r\n",
    ] {
        let input = format!("3\r\nabc\r\n{bad}");
        let (data, _, done) = decode(Framing::Chunked, input.as_bytes(), 64);
        assert!(done.is_err(), "{bad:?} was accepted");
        assert!(data.starts_with(b"abc"), "{bad:?}");
    }
}

#[test]
fn the_end_of_a_head_is_found_and_loose_line_ends_are_faults() {
    assert_eq!(head_end(b"GET / HTTP/1.1\r\nA: b\r\n\r\nbody"), Ok(Some(24)));
    assert_eq!(head_end(b"GET / HTTP/1.1\r\nA: b\r\n\r"), Ok(None));
    assert_eq!(head_end(b""), Ok(None));
    for bad in ["GET /\n", "GET /\rx", "GET /\0", "A\r\n\n", "\n"] {
        assert!(head_end(bad.as_bytes()).is_err(), "{bad:?}");
    }
    assert!(head_end(&vec![b'a'; HEAD_LIMIT]).is_err());
}

#[test]
fn requests_are_read_with_case_order_and_repetition() {
    let raw = b"PURGE /a?b HTTP/1.1\r\nhOsT: x\r\nSet: 1\r\nset:  2\t\r\nContent-Length: 7\r\n\r\n";
    let head = RequestHead::parse(raw).expect("a proper head");
    assert_eq!((head.method.as_str(), head.target.as_str()), ("PURGE", "/a?b"));
    assert_eq!(head.framing, Framing::Length(7));
    assert_eq!(head.raw, raw);
    let fields: Vec<_> = head.headers.iter().collect();
    let expected = [("hOsT", "x"), ("Set", "1"), ("set", "2"), ("Content-Length", "7")];
    assert_eq!(fields, expected);
    assert!(head.keeps_alive());
}

#[test]
fn bad_requests_are_refused() {
    for bad in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET /",
        "GET / HTTP/2",
        "G(T / HTTP/1.1",
        " GET / HTTP/1.1",
        "GET /\u{1} HTTP/1.1",
        "GET / HTTP/1.1\r\nA",
        "GET / HTTP/1.1\r\nA : b",
        "GET / HTTP/1.1\r\n A: b",
        "GET / HTTP/1.1\r\n: b",
        "GET / HTTP/1.1\r\nA: \u{1}",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1",
        "GET / HTTP/1.1\r\nContent-Length: +1",
        "GET / HTTP/1.1\r\nContent-Length: 1, 1",
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked",
        "GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked",
        "GET / HTTP/1.0\r\nTransfer-Encoding: chunked",
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "",
    ] {
        let parsed = RequestHead::parse(format!("{bad}\r\n\r\n").as_bytes());
        assert!(parsed.is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn responses_know_when_they_have_no_body() {
    let framing = |head: &str, method: &str| {
        let parsed = ResponseHead::parse(format!("{head}\r\n\r\n").as_bytes(), method);
        parsed.map(|head| head.framing)
    };
    assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 3", "GET"), Ok(Framing::Length(3)));
    assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 3", "HEAD"), Ok(Framing::Empty));
    assert_eq!(framing("HTTP/1.1 304 \r\nContent-Length: 3", "GET"), Ok(Framing::Empty));
    assert_eq!(framing("HTTP/1.1 204 No Content", "GET"), Ok(Framing::Empty));
    assert_eq!(framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", "GET"), Ok(Framing::Chunked));
    assert_eq!(framing("HTTP/1.1 200 OK", "GET"), Ok(Framing::Close));
    for bad in [
        "HTTP/1.1 204 x\r\nContent-Length: 0",
        "HTTP/1.1 100 x\r\nTransfer-Encoding: chunked",
        "HTTP/1.1 200",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 0200 OK",
        "HTTP/3 200 OK",
    ] {
        assert!(framing(bad, "GET").is_err(), "{bad:?} was accepted");
    }
}

#[test]
fn a_digest_depends_on_the_bytes_and_not_on_their_pieces() {
    let bytes: Vec<u8> = (0..1000_u32).map(|n| (n * 7 % 251) as u8).collect();
    for piece in 1..40 {
        let mut digest = Digest::default();
        bytes.chunks(piece).for_each(|part| digest.update(part));
        assert_eq!(digest.value(), digest_of(&bytes), "pieces of {piece}");
        assert_eq!(digest.length(), 1000);
    }
    let mut others = vec![bytes[1..].to_vec(), [&bytes[..], &[0]].concat(), bytes.clone(), bytes.clone()];
    others[2][500] ^= 1;
    others[3].swap(0, 8);
    for other in others {
        assert_ne!(digest_of(&other), digest_of(&bytes));
    }
}
