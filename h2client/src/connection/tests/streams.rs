//! How streams begin and end: limits, resets, GOAWAY.

use super::*;

#[test]
fn a_peer_that_sends_on_streams_that_are_gone_is_borne_within_bounds() {
    let ready = || {
        let mut side = Side::new(&[]);
        let key = side.open(true);
        side.connection.release(key);
        assert_eq!(side.resets(), [(1, Reason::CANCEL)]);
        side
    };
    // What its window had room for.
    let mut side = ready();
    assert_eq!(side.take(&head(1, 0, "200", &[])).unwrap(), []);
    assert_eq!(side.take(&frame(kind::DATA, 0, 1, &[0; 16_384]).repeat(4)).unwrap(), []);
    assert_eq!(side.reason(&frame(kind::DATA, 0, 1, b"x")), Reason::FLOW_CONTROL_ERROR);
    let mut side = ready();
    assert_eq!(side.reason(&head(1, 0, "103", &[]).repeat(17)), Reason::ENHANCE_YOUR_CALM);
    // A stream that has ended on both sides has nothing that could be late.
    for late in [frame(kind::DATA, 0, 1, b""), head(1, 0, "200", &[])] {
        for released in [false, true] {
            let mut side = Side::new(&[]);
            let key = side.open(true);
            side.take(&head(1, flag::END_STREAM, "200", &[])).unwrap();
            if released {
                side.connection.release(key);
            }
            assert_eq!(side.reason(&late), Reason::STREAM_CLOSED);
        }
    }
    let mut side = Side::new(&[]);
    let key = side.open(true);
    let reset = frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    assert_eq!(side.take(&reset).unwrap(), [Event::Reset(key, Reason::CANCEL)]);
    assert_eq!(side.take(&[reset, window_update(1, 1)].concat()).unwrap(), []);
    assert_eq!(side.reason(&frame(kind::DATA, 0, 1, b"")), Reason::STREAM_CLOSED);
}

#[test]
fn a_peer_that_goes_away_has_processed_what_it_says_and_gets_nothing_else() {
    let mut side = Side::new(&[]);
    let (first, second) = (side.open(true), side.open(false));
    let goaway =
        |last: u32, reason: u32| frame(kind::GOAWAY, 0, 0, &[last.to_be_bytes(), reason.to_be_bytes()].concat());
    assert_eq!(side.take(&goaway((1 << 31) - 1, 0)).unwrap(), [Event::GoAway(Reason::NO_ERROR)]);
    assert_eq!(side.connection.open(&[b"\x82"], true, false), Err(OpenError::Closing));
    let calm = Reason::ENHANCE_YOUR_CALM;
    assert_eq!(side.take(&goaway(1, 11)).unwrap(), [Event::GoAway(calm), Event::Refused(second, calm)]);
    assert_eq!(side.take(&head(1, flag::END_STREAM, "200", &[])).unwrap(), [Event::Head { stream: first, ends: true }]);
    assert_eq!(side.connection.open_streams(), 0);
}

#[test]
fn no_more_streams_are_opened_than_the_peer_allows() {
    let mut side = Side::new(&[(setting::MAX_CONCURRENT_STREAMS, 1)]);
    assert_eq!(side.connection.max_streams(), 1);
    let key = side.open(true);
    assert_eq!(side.connection.open(&[b"\x82"], true, false), Err(OpenError::Full));
    side.connection.release(key);
    side.open(true);
}

#[test]
fn a_head_that_has_not_left_is_known() {
    let mut side = Side::new(&[]);
    let key = side.open(true);
    assert!(!side.connection.has_left(key));
    let all = side.connection.out.len();
    side.connection.written(all - 1);
    assert!(!side.connection.has_left(key));
    side.connection.written(1);
    assert!(side.connection.has_left(key));
}
