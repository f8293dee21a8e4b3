//! Blocks of fields: cut into frames, put together again, bounded.

use super::*;

#[test]
fn a_response_without_a_body_may_say_how_long_it_would_be() {
    let mut side = Side::new(&[]);
    let to_head = side.connection.open(&[b"\x82"], true, true).unwrap();
    let other = side.open(true);
    let length = [("content-length", "9")];
    let heads = [head(1, flag::END_STREAM, "200", &length), head(3, flag::END_STREAM, "304", &length)].concat();
    let ended = |stream| Event::Head { stream, ends: true };
    assert_eq!(side.take(&heads).unwrap(), [ended(to_head), ended(other)]);
}

#[test]
fn fields_of_streams_that_are_gone_still_fill_the_table() {
    let mut side = Side::new(&[]);
    let key = side.open(true);
    side.connection.release(key);
    let next = side.open(true);
    let indexed = frame(kind::HEADERS, flag::END_HEADERS, 1, b"\x88\x40\x01a\x01b");
    let referring = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, 3, b"\x88\xbe");
    assert_eq!(side.take(&[indexed, referring].concat()).unwrap(), [Event::Head { stream: next, ends: true }]);
    assert_eq!(side.connection.lines(), b"a: b\r\n");
}

#[test]
fn long_blocks_are_cut_into_frames_and_put_together_again() {
    let mut side = Side::new(&[]);
    let long = vec![b'v'; 40_000];
    let mut fields = Vec::new();
    block::put_field(&mut fields, b"x-long", &long);
    side.connection.open(&[&fields], true, false).unwrap();
    let sent = side.sent();
    let flags: Vec<(u8, u8, usize)> = sent.iter().map(|sent| (sent.kind, sent.flags, sent.payload.len())).collect();
    let rest = fields.len() + 1 - 2 * 16_384;
    let (first, next, last) =
        ((kind::HEADERS, flag::END_STREAM), (kind::CONTINUATION, 0), (kind::CONTINUATION, flag::END_HEADERS));
    assert_eq!(flags, [(first.0, first.1, 16_384), (next.0, next.1, 16_384), (last.0, last.1, rest)]);
    assert_eq!(sent.iter().flat_map(|sent| sent.payload.clone()).skip(1).collect::<Vec<u8>>(), fields);

    let mut block = b"\x88".to_vec();
    block::put_field(&mut block, b"a", &[b'v'; 10_000]);
    let (start, end) = block.split_at(3_000);
    let cut = [frame(kind::HEADERS, flag::END_STREAM, 1, start), frame(kind::CONTINUATION, flag::END_HEADERS, 1, end)]
        .concat();
    assert_eq!(side.take(&cut).unwrap().len(), 1);
    assert_eq!(side.connection.lines().len(), 10_000 + 5);
}

#[test]
fn a_block_that_does_not_end_is_bounded() {
    let mut side = Side::new(&[]);
    side.open(true);
    side.take(&frame(kind::HEADERS, 0, 1, &[])).unwrap();
    let piece = frame(kind::CONTINUATION, 0, 1, &[0; 16_384]);
    let taken = (0..100).take_while(|_| side.take(&piece).is_ok()).count();
    assert_eq!(taken, 16);
}

/// What comes on the next stream with this block as its head: its number, its status, and its lines.
fn answered(side: &mut Side, block: &[u8]) -> (u64, u16, Vec<u8>) {
    let key = side.open(true);
    let id = side.sent().last().expect("a request").stream;
    let head = frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, id, block);
    assert_eq!(side.take(&head).unwrap(), [Event::Head { stream: key, ends: true }]);
    side.connection.release(key);
    (side.connection.head_number(), side.connection.status(), side.connection.lines().to_vec())
}

#[test]
fn a_head_that_comes_again_is_the_same_one_only_while_it_means_the_same() {
    let mut side = Side::new(&[]);
    let (ok, missing): (&[u8], &[u8]) = (b"\x88\x0f\x0d\x010", b"\x8d\x0f\x0d\x010");
    let lines = b"content-length: 0\r\n".to_vec();
    assert_eq!(answered(&mut side, ok), (1, 200, lines.clone()));
    assert_eq!(answered(&mut side, ok), (1, 200, lines.clone()));
    assert_eq!(answered(&mut side, missing), (2, 404, lines.clone()));
    assert_eq!(answered(&mut side, ok), (3, 200, lines));
    // The same bytes refer to the newest entry of the table, which another block changes.
    let newest: &[u8] = b"\x88\xbe";
    let inserting = |value: u8| [b"\x88\x40\x01a\x01", &[value][..]].concat();
    for (number, value) in [(4, b'b'), (6, b'c')] {
        let line = [b"a: ", &[value][..], b"\r\n"].concat();
        assert_eq!(answered(&mut side, &inserting(value)), (number, 200, line.clone()));
        assert_eq!(answered(&mut side, newest), (number + 1, 200, line.clone()));
        assert_eq!(answered(&mut side, newest), (number + 1, 200, line));
    }
    // A block that changes the table means something else each time.
    assert_eq!(answered(&mut side, &inserting(b'c')).0, 8);
    assert_eq!(answered(&mut side, &inserting(b'c')).0, 9);
}

#[test]
fn a_head_that_comes_again_is_checked_again_against_its_own_request() {
    let mut side = Side::new(&[]);
    let long = [("content-length", "3")];
    let to_head = side.connection.open(&[b"\x82"], true, true).unwrap();
    let other = side.open(true);
    let ends = flag::END_STREAM;
    assert_eq!(side.take(&head(1, ends, "200", &long)).unwrap(), [Event::Head { stream: to_head, ends: true }]);
    let short = side.take(&head(3, ends, "200", &long)).unwrap();
    assert!(matches!(&short[..], [Event::Malformed(key, _)] if *key == other), "{short:?}");
    // Malformed fields are malformed each time.
    for stream in [5, 7] {
        let key = side.open(true);
        let events = side.take(&head(stream, ends, "200", &[("connection", "close")])).unwrap();
        assert!(matches!(&events[..], [Event::Malformed(told, _)] if *told == key), "{events:?}");
    }
}

#[test]
fn trailers_that_come_again_are_told_again_whatever_came_between() {
    let mut side = Side::new(&[]);
    for stream in [1, 3, 5] {
        let key = side.open(true);
        let head = head(stream, 0, "200", &[("a", "b")]);
        assert_eq!(side.take(&head).unwrap(), [Event::Head { stream: key, ends: false }]);
        assert_eq!(side.connection.lines(), b"a: b\r\n");
        let end = trailers(stream, flag::END_STREAM, &[("grpc-status", "0")]);
        assert_eq!(side.take(&end).unwrap(), [Event::Trailers(key)]);
        assert_eq!(side.connection.lines(), b"grpc-status: 0\r\n");
    }
}
