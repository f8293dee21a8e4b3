//! Windows and what waits to be sent: nothing passes its bound.

use super::*;

#[test]
fn what_is_taken_is_given_back_and_no_more() {
    let mut side = Side::new(&[]);
    let key = side.open(true);
    side.sent();
    side.take(&head(1, 0, "200", &[])).unwrap();
    let piece = frame(kind::DATA, flag::PADDED, 1, &[&[255][..], &[1; 16_000]].concat());
    side.take(&piece.repeat(3)).unwrap();
    assert_eq!(side.sent(), [], "nothing was taken, and little is padding");
    side.connection.consumed(key, 3 * (16_000 - 255) - 16_000);
    assert_eq!(side.sent(), []);
    side.connection.consumed(key, 16_000);
    let credit: Vec<(u32, u32)> =
        side.sent().iter().map(|sent| (sent.stream, crate::frame::number(&sent.payload))).collect();
    // The padding of every frame, with the byte that says how long it is, was given back with it.
    assert_eq!(credit.iter().map(|(stream, _)| *stream).collect::<Vec<_>>(), [1]);
    assert!(credit[0].1 > 32_768 && credit[0].1 <= 3 * 16_001, "{credit:?}");
    // The connection's window is given back by itself.
    let mut total = 3 * 16_001;
    while side.sent().iter().all(|sent| sent.stream != 0) {
        side.take(&frame(kind::DATA, 0, 1, &[0; 10_000])).unwrap();
        side.connection.consumed(key, 10_000);
        total += 10_000;
        assert!(total <= 1 << 20);
    }
    assert!(total > 1 << 19);
}

#[test]
fn no_more_is_sent_than_windows_allow() {
    let mut side = Side::new(&[(setting::INITIAL_WINDOW_SIZE, 10)]);
    let key = side.open(false);
    assert_eq!(side.connection.room(key, 100), 10);
    side.connection.send_data(key, Bytes::from_static(b"0123456789"), false);
    assert_eq!(side.connection.room(key, 100), 0);
    side.sent();
    // Sending does not widen the window, and who waits is told once.
    assert_eq!(side.connection.next_event(), Some(Event::Room(key)));
    assert_eq!(side.connection.room(key, 100), 0);
    assert_eq!(side.take(&window_update(1, 5)).unwrap(), [Event::Room(key)]);
    assert_eq!(side.connection.room(key, 100), 5);
    // A first window that becomes smaller makes those of streams negative.
    side.take(&settings(&[(setting::INITIAL_WINDOW_SIZE, 0)])).unwrap();
    assert_eq!(side.connection.room(key, 100), 0);
    side.take(&window_update(1, 5)).unwrap();
    assert_eq!(side.connection.room(key, 100), 0);
    assert_eq!(side.take(&settings(&[(setting::INITIAL_WINDOW_SIZE, 3)])).unwrap().len(), 2);
    assert_eq!(side.connection.room(key, 100), 3);
}

#[test]
fn streams_share_the_window_of_the_connection_in_turns() {
    let mut side = Side::new(&[(setting::INITIAL_WINDOW_SIZE, 1 << 20)]);
    let (first, second) = (side.open(false), side.open(false));
    assert_eq!(side.connection.room(first, 1 << 20), 65_535, "the first window of the connection");
    side.connection.send_data(first, vec![0; 65_535].into(), false);
    side.sent();
    assert_eq!((side.connection.room(first, 50_000), side.connection.room(second, 50_000)), (0, 0));
    let mut order = Vec::new();
    for _ in 0..6 {
        for event in side.take(&window_update(0, 16_384)).unwrap() {
            let Event::Room(key) = event else { continue };
            let room = side.connection.room(key, 50_000);
            side.connection.send_data(key, vec![0; room].into(), false);
            order.push((key, room));
            side.sent();
            assert_eq!(side.connection.room(key, 50_000), 0);
        }
    }
    let turns: Vec<(Key, usize)> = [first, second].repeat(3).into_iter().map(|key| (key, 16_384)).collect();
    assert_eq!(order, turns);
    // What was set aside for a stream that ends goes to the next one.
    let granted = side.take(&window_update(0, 16_384)).unwrap();
    assert_eq!(granted, [Event::Room(first)]);
    side.connection.release(first);
    assert_eq!(side.connection.next_event(), Some(Event::Room(second)));
    assert_eq!(side.connection.room(second, 50_000), 16_384);
}

#[test]
fn no_stream_keeps_more_waiting_than_its_buffer() {
    let most = (1 << 31) - 1;
    let mut side = Side::new(&[(setting::INITIAL_WINDOW_SIZE, most)]);
    side.take(&window_update(0, most - 65_535)).unwrap();
    let (key, other) = (side.open(false), side.open(false));
    assert_eq!(side.connection.room(key, 1 << 20), 65_536);
    side.connection.send_data(key, vec![7; 65_536].into(), false);
    assert_eq!((side.connection.room(key, 1 << 20), side.connection.room(other, 100)), (0, 100));
    let sent = side.sent();
    assert_eq!(side.connection.next_event(), Some(Event::Room(key)));
    assert_eq!(side.connection.room(key, 1 << 20), 65_536);
    let lengths: Vec<usize> =
        sent.iter().filter(|sent| sent.kind == kind::DATA).map(|sent| sent.payload.len()).collect();
    assert_eq!(lengths, [16_384; 4], "in frames that every peer takes");
}

#[test]
fn all_streams_together_keep_a_bounded_amount_waiting() {
    let most = (1 << 31) - 1;
    let mut side = Side::new(&[(setting::INITIAL_WINDOW_SIZE, most), (setting::MAX_CONCURRENT_STREAMS, 1_000)]);
    side.take(&window_update(0, most - 65_535)).unwrap();
    let mut waiting = 0;
    loop {
        let key = side.open(false);
        let room = side.connection.room(key, 1 << 20);
        if room == 0 {
            break;
        }
        side.connection.send_data(key, vec![7; room].into(), false);
        waiting += room;
    }
    assert!(waiting <= MAX_WAITING + 65_536 && side.connection.is_clogged());
    side.sent();
    assert!(!side.connection.is_clogged() && side.connection.next_event().is_some());
}

#[test]
fn a_peer_that_does_not_take_its_answers_is_not_read_from() {
    let mut side = Side::new(&[]);
    let ping = frame(kind::PING, 0, 0, &[7; 8]);
    let mut pings = 0;
    while side.connection.wants_input() {
        side.take(&ping).unwrap();
        pings += 1;
        assert!(pings < 10_000);
    }
    let answers = side.sent();
    assert!(answers.len() == pings && answers.iter().all(|sent| sent.flags == flag::ACK && sent.payload == [7; 8]));
    assert!(side.connection.wants_input());
}
