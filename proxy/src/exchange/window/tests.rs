//! Tests of the body window.

use proptest::prelude::*;

use super::*;

/// What a leg that writes `step` bytes at a time has written when nothing is left.
fn drain(window: &Window, cursor: &mut Cursor, coding: Coding, step: usize) -> Vec<u8> {
    let mut wire = Vec::new();
    while !window.is_passed(*cursor, coding) {
        let mut slices = [IoSlice::new(b""); 4];
        let used = window.fill(*cursor, coding, &mut slices, 0);
        let bytes: Vec<u8> = slices[..used].iter().flat_map(|s| s.iter().copied()).take(step).collect();
        assert!(!bytes.is_empty());
        window.advance(cursor, coding, bytes.len());
        wire.extend(bytes);
    }
    wire
}

fn window(limit: usize) -> Window {
    let mut window = Window::default();
    window.reset(limit);
    window
}

#[test]
fn a_known_length_passes_as_it_is_and_an_unknown_one_in_chunks() {
    let chunks = "5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n";
    for (coding, want) in [(Coding::Identity, "helloworld"), (Coding::Chunked, chunks)] {
        let mut window = window(1 << 20);
        window.push(Bytes::from_static(b"hello"));
        let mut cursor = Cursor::default();
        let before = drain(&window, &mut cursor, coding, 3);
        assert!(!before.ends_with(chunked::LAST_CHUNK), "not complete before it is");
        window.push(Bytes::from_static(b"world"));
        window.finish();
        let all = [before, drain(&window, &mut cursor, coding, 3)].concat();
        assert_eq!(String::from_utf8(all).unwrap(), want);
    }
}

#[test]
fn a_small_piece_counts_as_256_bytes() {
    let mut window = window(1024);
    for _ in 0..3 {
        window.push(Bytes::from_static(b"x"));
    }
    assert!(window.has_room());
    window.push(Bytes::from_static(b"x"));
    assert!(!window.has_room() && window.cost() == 1024);
}

#[test]
fn the_slowest_leg_holds_the_window_until_it_moves() {
    let mut window = window(2000);
    window.push(Bytes::from(vec![1; 1000]));
    window.push(Bytes::from(vec![2; 1000]));
    assert!(!window.has_room());
    let mut cursor = Cursor::default();
    window.advance(&mut cursor, Coding::Identity, 999);
    window.trim(cursor);
    assert!(!window.has_room() && window.is_replayable());
    window.advance(&mut cursor, Coding::Identity, 1);
    window.trim(cursor);
    assert!(window.has_room() && !window.is_replayable());
}

#[test]
fn small_pieces_put_together_cost_what_they_hold_and_are_the_same_bytes() {
    for coding in [Coding::Identity, Coding::Chunked] {
        let mut window = window(64 << 10);
        let mut body = Vec::new();
        let mut put = |window: &mut Window, length: usize, byte| {
            window.push(Bytes::from(vec![byte; length]));
            body.extend(vec![byte; length]);
        };
        put(&mut window, 5000, 1);
        for n in 0..3000 {
            put(&mut window, 3, (n % 251) as u8);
            if n % 7 == 0 {
                window.compact();
            }
        }
        window.compact();
        assert!(window.cost() <= body.len() + MIN_PIECE_COST, "{} for {}", window.cost(), body.len());
        assert_eq!(window.received(), body.len() as u64);
        window.finish();
        let wire = drain(&window, &mut Cursor::default(), coding, 1000);
        if coding == Coding::Chunked {
            let mut decoded = Vec::new();
            let (mut decoder, mut buffer) = (chunked::Decoder::default(), BytesMut::from(&wire[..]));
            while let chunked::Decoded::Data(data) = decoder.decode(&mut buffer).unwrap() {
                decoded.extend_from_slice(&data);
            }
            assert_eq!(decoded, body);
        } else {
            assert_eq!(wire, body);
        }
        window.trim_all();
        assert_eq!(window.cost(), 0);
    }
}

#[test]
fn a_small_piece_does_not_keep_the_buffer_that_it_was_read_into() {
    for compact in [true, false] {
        let mut window = window(1 << 20);
        let mut buffer = BytesMut::with_capacity(1 << 16);
        let place = buffer.as_ptr();
        buffer.extend_from_slice(b"ab");
        window.push(buffer.split_to(1).freeze());
        window.push(buffer.split_to(1).freeze());
        if compact {
            window.compact();
        } else {
            window.unpin();
        }
        buffer.reserve(1 << 16);
        assert_eq!(buffer.as_ptr(), place, "nobody else has a part of it");
        assert_eq!(drain(&window, &mut Cursor::default(), Coding::Identity, 9), b"ab");
    }
}

#[test]
fn kept_data_need_no_room_in_the_window_up_to_the_limit() {
    let mut window = window(1_000);
    window.keep(3_000);
    let mut cursor = Cursor::default();
    let mut pass = |window: &mut Window| {
        drain(window, &mut cursor, Coding::Identity, usize::MAX);
        window.trim(cursor);
        cursor
    };
    for _ in 0..3 {
        assert!(window.has_room());
        window.push(vec![1; 1_000].into());
        assert!(!window.has_room(), "nobody has passed it");
        pass(&mut window);
    }
    assert!(window.has_room() && window.is_kept() && window.cost() == 3_000);
    window.trim(Cursor::default());
    assert_eq!((window.has_room(), window.ahead()), (false, 3_000), "one begins again");
    pass(&mut window);
    window.push(Bytes::from_static(b"x"));
    assert!(!window.is_kept() && !window.has_room() && window.is_replayable());
    pass(&mut window);
    assert!(window.is_empty() && window.has_room() && window.whole().is_none());
}

#[test]
fn a_body_that_is_kept_is_there_as_a_whole() {
    let mut window = window(300);
    window.keep(1_000);
    for piece in ["a", "bc", "d"] {
        window.push(piece.into());
        window.trim_all();
    }
    assert_eq!(window.whole(), None, "it may go on");
    window.finish();
    assert_eq!(window.whole().unwrap(), "abcd");
    let mut pieces = 0;
    while window.is_kept() {
        window.push("x".into());
        pieces += 1;
    }
    assert_eq!(pieces, 3, "pieces of one byte cost more than they hold");
}

proptest! {
    #[test]
    fn every_leg_sends_the_whole_body_whatever_its_pace_and_its_framing(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 1..20),
        legs in prop::collection::vec((1..40_usize, any::<bool>()), 1..5),
    ) {
        let coding = |leg: usize| if legs[leg].1 { Coding::Chunked } else { Coding::Identity };
        let mut window = window(usize::MAX);
        let mut cursors = vec![Cursor::default(); legs.len()];
        let mut wires = vec![Vec::new(); legs.len()];
        for (i, piece) in pieces.iter().enumerate() {
            window.push(Bytes::copy_from_slice(piece));
            // Legs take turns in catching up, and what all have passed is let go.
            let leg = i % legs.len();
            let wire = drain(&window, &mut cursors[leg], coding(leg), legs[leg].0);
            wires[leg].extend(wire);
            window.trim(*cursors.iter().min().unwrap());
        }
        window.finish();
        for leg in 0..legs.len() {
            let wire = drain(&window, &mut cursors[leg], coding(leg), legs[leg].0);
            wires[leg].extend(wire);
            let chunks = || pieces.iter().flat_map(|p| [format!("{:x}\r\n", p.len()).into_bytes(), p.clone(), b"\r\n".to_vec()]);
            let want = match coding(leg) {
                Coding::Identity => pieces.concat(),
                Coding::Chunked => chunks().chain([chunked::LAST_CHUNK.to_vec()]).collect::<Vec<_>>().concat(),
            };
            prop_assert_eq!(&wires[leg], &want);
        }
        window.trim(*cursors.iter().min().unwrap());
        prop_assert!(window.is_empty() && window.cost() == 0);
    }
}
