//! Tests of rate limits: what is admitted, `Retry-After`, and bounds of memory.

use proptest::prelude::*;

use super::*;

fn rate(text: &str) -> Rate {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn address(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

/// How many of `count` simultaneous requests are admitted.
fn admitted(limiter: &Limiter, identity: Option<&Identity>, from: IpAddr, count: usize, at: Instant) -> usize {
    (0..count).filter(|_| limiter.admit(identity, from, at) == Verdict::Within).count()
}

#[test]
fn a_burst_may_go_at_once_and_after_it_the_rate() {
    let began = Instant::now();
    let limiter = Limiter::new(rate("100/s,burst=200"), began);
    assert_eq!(admitted(&limiter, None, address(1), 1_000, began), 200);
    assert_eq!(admitted(&limiter, None, address(2), 1, began), 1, "another address");
    assert_eq!(admitted(&limiter, None, address(1), 1_000, began + Duration::from_secs(1)), 100);
    assert_eq!(admitted(&limiter, None, address(1), 1_000, began + Duration::from_millis(1_250)), 25);
    assert_eq!(admitted(&limiter, None, address(1), 1_000, began + Duration::from_secs(60)), 200, "no more is saved");
}

#[test]
fn a_refusal_says_when_the_next_request_is_permitted() {
    let began = Instant::now();
    for text in ["2/m", "1/s", "3/s,burst=1", "7/h,burst=3"] {
        let limiter = Limiter::new(rate(text), began);
        let mut now = began;
        while limiter.admit(None, address(1), now) == Verdict::Within {}
        for _ in 0..3 {
            let refused = limiter.admit(None, address(1), now);
            let Verdict::Over(wait) = refused else { panic!("{text}: {refused:?}") };
            let early = limiter.admit(None, address(1), now + wait - Duration::from_nanos(1));
            assert!(matches!(early, Verdict::Over(_)), "{text}");
            now += Duration::from_secs(refused.retry_after().expect("it is refused"));
            assert_eq!(limiter.admit(None, address(1), now), Verdict::Within, "{text}");
            while limiter.admit(None, address(1), now) == Verdict::Within {}
        }
    }
}

#[test]
fn the_rate_of_an_identity_is_independent_of_its_address() {
    let began = Instant::now();
    let limiter = Limiter::new(rate("10/s"), began);
    let (ci, cms) = (Identity::token("ci"), Identity::service_account("shop", "cms"));
    assert_eq!(admitted(&limiter, Some(&ci), address(1), 7, began), 7);
    assert_eq!(admitted(&limiter, Some(&ci), address(2), 7, began), 3);
    assert_eq!(admitted(&limiter, Some(&cms), address(1), 20, began), 10);
    assert_eq!(admitted(&limiter, None, address(1), 20, began), 10);
}

#[test]
fn the_addresses_of_a_64_of_ipv6_are_one_client() {
    let began = Instant::now();
    let limiter = Limiter::new(rate("10/s"), began);
    let of = |text: &str| text.parse::<IpAddr>().unwrap();
    assert_eq!(admitted(&limiter, None, of("2001:db8::1"), 7, began), 7);
    assert_eq!(admitted(&limiter, None, of("2001:db8::ffff:2"), 7, began), 3);
    assert_eq!(admitted(&limiter, None, of("2001:db8:0:1::1"), 20, began), 10);
    assert_eq!(admitted(&limiter, None, of("192.0.2.1"), 7, began), 7);
    assert_eq!(admitted(&limiter, None, of("::ffff:192.0.2.1"), 7, began), 3);
}

#[test]
fn memory_is_bounded_whatever_addresses_come_and_all_are_held_to_the_rate() {
    let rate = rate("2/s,burst=4");
    let counts = BoundedCounts::<u32>::new(100);
    for key in 0..5_000 {
        assert_eq!(counts.admit(key, rate, 1), Verdict::Within, "{key} comes for the first time");
    }
    assert_eq!((counts.full_at.len(), counts.len.load(Ordering::Relaxed)), (100, 100));
    let more = |key| (0..100).filter(|_| counts.admit(key, rate, 2) == Verdict::Within).count();
    assert_eq!(more(5), 3, "it is counted");
    assert!(more(4_999) <= 3, "it is estimated, and shares counters");
    // Callers with full buckets are removed.
    let later = 60_000_000_000;
    assert_eq!(counts.admit(20_000, rate, later), Verdict::Within);
    assert_eq!((counts.full_at.len(), counts.len.load(Ordering::Relaxed)), (1, 1));
}

#[test]
fn an_estimated_caller_gets_its_rate_over_time_and_never_more() {
    let rate = rate("10/s,burst=20");
    let sketch = Sketch::new();
    let tenth = 100_000_000;
    let sent: usize =
        (0..600).map(|n| (0..5).filter(|_| sketch.admit(&1, rate, n * tenth) == Verdict::Within).count()).sum();
    // A minute at 10 a second, and the burst.
    assert!((540..=620).contains(&sent), "{sent}");
    assert_eq!(sketch.admit(&1, rate, 600 * tenth * 10), Verdict::Within);
}

#[test]
fn rates_are_read_as_they_are_shown() {
    for text in ["100/s", "100/s,burst=200", "600/m", "1/h,burst=5"] {
        assert_eq!(rate(text).to_string(), text);
    }
    assert_eq!(rate(" 5 / s , burst=7 ").to_string(), "5/s,burst=7");
    for (text, part) in [
        ("", "is not a rate"),
        ("100", "is not a rate"),
        ("100/d", "is not a rate"),
        ("100/s,200", "is not a rate"),
        ("100/s;burst=200", "is not a rate"),
        ("0/s", "\"0\" is not a number of requests"),
        ("-1/s", "\"-1\" is not a number of requests"),
        ("1.5/s", "\"1.5\" is not a number of requests"),
        ("1/s,burst=0", "\"0\" is not a number of requests"),
        ("9999999999/s", "is not a number of requests"),
    ] {
        let error = text.parse::<Rate>().expect_err(text).to_string();
        assert!(error.contains(part), "{text:?}: {error}");
    }
}

proptest! {
    /// In any interval no more are admitted than the burst and the rate times the interval.
    #[test]
    fn no_time_has_more_than_the_burst_and_its_rate(
        count in 1..50_u32,
        burst in 1..20_u32,
        steps in proptest::collection::vec(0..300_u64, 1..200),
    ) {
        let limiter = Limiter::new(rate(&format!("{count}/s,burst={burst}")), Instant::now());
        let mut now = limiter.began;
        let mut passed: Vec<Duration> = Vec::new();
        for step in steps {
            now += Duration::from_millis(step);
            if limiter.admit(None, address(1), now) == Verdict::Within {
                passed.push(now - limiter.began);
            }
        }
        for (n, from) in passed.iter().enumerate() {
            for (m, to) in passed.iter().enumerate().skip(n) {
                let most = f64::from(burst) + (to.saturating_sub(*from)).as_secs_f64() * f64::from(count) + 1e-6;
                prop_assert!((m - n + 1) as f64 <= most, "{} from {from:?} to {to:?}", m - n + 1);
            }
        }
    }
}
