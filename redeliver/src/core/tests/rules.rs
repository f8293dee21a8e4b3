//! The rules of redelivery, one test for each sentence that the queues alone can hold.

use super::{
    START, delivered, ids, last, limits, members, memory, miss, missed, owed, purge, request, rules, sent, whom,
};
use crate::{
    JobId, Last, Request,
    core::{Change, Core, Leg, Member, Members, Refused, Retry, State, Verdict, Why},
    rules::{Gone, Limits, Order, Rules},
    view::{JobState, Query},
};

use std::{sync::Arc, time::Duration};

fn put(target: &str) -> Request {
    request("PUT", target, "value")
}

#[test]
fn rule_1_a_job_is_neither_sent_nor_shown_before_the_journal_has_it() {
    let mut core = Core::new(limits(), true, 1);
    let route = core.route("purges", rules());
    core.members(START, members(&[("a", true)]));
    miss(&mut core, route, 1, purge("/x"), START, &["a"]);
    let writes = core.take_writes();
    assert!(matches!(&writes[0].change, Change::Put(stored) if stored.id == JobId::new(1)));
    assert!(sent(&mut core, START + 5_000).is_empty());
    assert!(core.show_one(JobId::new(1)).is_none());
    assert!(core.arrive(JobId::new(2), route, "a"), "but later requests wait already");
    core.leave(JobId::new(2), route, "a");
    core.written(START, writes[0].receipt, true);
    assert_eq!(ids(&sent(&mut core, START + 5_000)), [1]);
}

#[test]
fn rule_1_a_job_that_the_journal_cannot_take_is_owed_to_nobody() {
    let mut core = Core::new(limits(), true, 1);
    let route = core.route("purges", rules());
    core.members(START, members(&[("a", true)]));
    miss(&mut core, route, 1, purge("/x"), START, &["a"]);
    let receipt = core.take_writes()[0].receipt;
    core.written(START, receipt, false);
    assert!(sent(&mut core, START + 5_000).is_empty());
    assert!(core.is_clear() && core.owed() == (0, 0));
    core.check();
}

#[test]
fn rule_2_a_live_request_waits_until_the_journal_knows_that_nothing_is_owed() {
    let mut core = Core::new(limits(), true, 1);
    let route = core.route("purges", rules());
    core.members(START, members(&[("a", true)]));
    miss(&mut core, route, 1, purge("/x"), START, &["a"]);
    let receipt = core.take_writes()[0].receipt;
    core.written(START, receipt, true);
    let copy = core.next(START + 1_000).unwrap();
    core.tried(START + 1_000, copy.attempt, delivered());
    let settled = core.take_writes();
    assert!(matches!(settled[0].change, Change::Settled { last: true, .. }));
    assert!(core.arrive(JobId::new(2), route, "a"), "after a crash the former would be sent again");
    core.leave(JobId::new(2), route, "a");
    core.written(START, settled[0].receipt, true);
    assert!(!core.arrive(JobId::new(3), route, "a"));
    assert!(core.is_clear());
}

#[test]
fn rule_2_order_is_that_of_arrival_also_for_legs_that_miss_late() {
    let (mut core, route) = memory(rules(), &["a"]);
    miss(&mut core, route, 5, put("/x"), START, &["a"]);
    miss(&mut core, route, 6, put("/x"), START, &["a"]);
    miss(&mut core, route, 4, put("/x"), START, &["a"]);
    let mut order = Vec::new();
    while let Some(copy) = core.next(START + 1_000) {
        assert!(sent(&mut core, START + 1_000).is_empty(), "one after the other");
        order.push(copy.job.get());
        core.tried(START + 1_000, copy.attempt, delivered());
    }
    assert_eq!(order, [4, 5, 6]);
}

#[test]
fn rule_2_nothing_behind_a_request_that_still_arrives_goes_first() {
    let (mut core, route) = memory(rules(), &["a"]);
    miss(&mut core, route, 1, put("/x"), START, &["a"]);
    assert!(core.arrive(JobId::new(2), route, "a"));
    miss(&mut core, route, 3, put("/x"), START, &["a"]);
    let copy = core.next(START + 1_000).unwrap();
    core.tried(START + 1_000, copy.attempt, delivered());
    assert!(sent(&mut core, START + 1_000).is_empty());
    core.leave(JobId::new(2), route, "a");
    assert_eq!(ids(&sent(&mut core, START + 1_000)), [3]);
}

#[test]
fn rule_2_other_routes_and_order_none_do_not_wait() {
    let (mut core, route) = memory(rules(), &["a"]);
    let other = core.route("other", rules());
    let unordered = core.route("unordered", Rules { order: Order::None, ..rules() });
    miss(&mut core, route, 1, put("/x"), START, &["a"]);
    miss(&mut core, unordered, 2, put("/x"), START, &["a"]);
    assert!(!core.arrive(JobId::new(3), other, "a"));
    assert!(!core.arrive(JobId::new(4), unordered, "a"));
    assert!(core.arrive(JobId::new(5), route, "a"));
    core.leave(JobId::new(5), route, "a");
}

#[test]
fn rule_2_under_any_what_is_pending_keeps_later_ones_behind_until_it_ends() {
    let (mut core, route) = memory(rules(), &["a"]);
    core.defer(START, JobId::new(1), (route, START), put("/x"), vec![(whom("a"), Leg::Pending)]).unwrap();
    assert!(core.arrive(JobId::new(2), route, "a"));
    core.defer(START, JobId::new(2), (route, START), put("/x"), vec![(whom("a"), Leg::Behind)]).unwrap();
    assert!(sent(&mut core, START).is_empty());
    core.ended(START, JobId::new(1), "a", 1, delivered());
    assert_eq!(ids(&sent(&mut core, START)), [2], "the pending one arrived, so it is not sent again");

    let (mut core, route) = memory(rules(), &["a"]);
    core.defer(START, JobId::new(1), (route, START), put("/x"), vec![(whom("a"), Leg::Pending)]).unwrap();
    core.ended(START, JobId::new(1), "a", 3, missed());
    let copies = sent(&mut core, START + 1_000);
    assert_eq!((ids(&copies), copies[0].number), (vec![1], 4), "rule 3: the tries of the live leg count");
}

#[test]
fn copies_with_unknown_end_are_sent_again_at_once_and_refused_ones_are_not() {
    let pending = |core: &mut Core, route| {
        core.defer(START, JobId::new(1), (route, START), put("/x"), vec![(whom("a"), Leg::Pending)]).unwrap();
    };
    let (mut core, route) = memory(rules(), &["a"]);
    pending(&mut core, route);
    core.ended(START, JobId::new(1), "a", 1, Verdict::Cancelled);
    core.ended(START, JobId::new(1), "a", 1, delivered());
    assert_eq!(ids(&sent(&mut core, START)), [1], "it says nothing about the endpoint, and the first end counts");

    let (mut core, route) = memory(rules(), &["a"]);
    pending(&mut core, route);
    core.ended(START, JobId::new(1), "a", 1, Verdict::Refused(last("client_error", START)));
    assert!(sent(&mut core, START).is_empty() && core.is_clear());
}

#[test]
fn rule_3_a_copy_says_which_try_it_is_and_how_old() {
    let (mut core, route) = memory(rules(), &["a", "b"]);
    miss(&mut core, route, 1, put("/x"), START, &["a"]);
    miss(&mut core, route, 2, put("/x"), START + 500, &["a"]);
    let copy = core.next(START + 1_000).unwrap();
    assert_eq!((copy.number, copy.age), (2, 1_000), "the live leg was the first");
    core.tried(START + 1_000, copy.attempt, missed());
    let copy = core.next(START + 2_000).unwrap();
    assert_eq!((copy.job.get(), copy.number, copy.age), (1, 3, 2_000));
    core.tried(START + 2_000, copy.attempt, delivered());
    let copy = core.next(START + 2_000).unwrap();
    assert_eq!((copy.job.get(), copy.number, copy.age), (2, 1, 1_500), "it waited, and was never sent");
}

#[test]
fn rule_4_of_equal_requests_without_a_body_the_latest_is_sent_and_all_are_done() {
    let (mut core, route) = memory(rules(), &["a"]);
    for id in 1..=3 {
        miss(&mut core, route, 2 * id, purge("/x"), START, &["a"]);
        miss(&mut core, route, 2 * id + 1, purge(&format!("/other/{id}")), START, &["a"]);
    }
    let mut order = Vec::new();
    while let Some(copy) = core.next(START + 1_000) {
        order.push(copy.job.get());
        core.tried(START + 1_000, copy.attempt, delivered());
    }
    assert_eq!(order, [3, 5, 6, 7], "in the place of the latest");
    let done = core.show(&Query { state: Some(JobState::Done), ..Query::default() });
    assert_eq!(done.len(), 6);
}

#[test]
fn rule_4_merging_never_crosses_another_request_for_the_same_host_and_target() {
    for between in [put("/x"), request("BAN", "/x", "")] {
        let (mut core, route) = memory(rules(), &["a"]);
        miss(&mut core, route, 1, purge("/x"), START, &["a"]);
        miss(&mut core, route, 2, between, START, &["a"]);
        miss(&mut core, route, 3, purge("/x"), START, &["a"]);
        let mut order = Vec::new();
        while let Some(copy) = core.next(START + 1_000) {
            order.push(copy.job.get());
            core.tried(START + 1_000, copy.attempt, delivered());
        }
        assert_eq!(order, [1, 2, 3]);
    }
}

#[test]
fn rule_4_a_request_with_other_header_fields_is_another_one() {
    let ban = |expression: &str, id: &str| Request {
        head: format!("BAN /x HTTP/1.1\r\nX-Ban: {expression}\r\nX-Request-Id: {id}\r\n\r\n").into(),
        ..request("BAN", "/x", "")
    };
    let (mut core, route) = memory(rules(), &["a"]);
    for (id, expression) in [(1, "a"), (2, "a"), (3, "b"), (4, "a")] {
        miss(&mut core, route, id, ban(expression, &id.to_string()), START, &["a"]);
    }
    let mut order = Vec::new();
    while let Some(copy) = core.next(START + 1_000) {
        order.push(copy.job.get());
        core.tried(START + 1_000, copy.attempt, delivered());
    }
    assert_eq!(order, [2, 3, 4], "only neighbours that ask for the same are merged, whatever their ids");
}

#[test]
fn rule_4_another_route_between_is_not_crossed_either_and_bodies_are_never_merged() {
    let (mut core, route) = memory(rules(), &["a"]);
    let other = core.route("other", rules());
    miss(&mut core, route, 1, purge("/x"), START, &["a"]);
    miss(&mut core, other, 2, put("/x"), START, &["a"]);
    miss(&mut core, route, 3, purge("/x"), START, &["a"]);
    miss(&mut core, other, 4, put("/x"), START, &["a"]);
    core.check();
    let all: Vec<_> = core.jobs.values().map(|job| job.deliveries[0].state).collect();
    assert_eq!(all, [State::Waiting; 4]);
}

#[test]
fn rule_4_merged_deliveries_are_sent_if_the_later_one_is_deleted() {
    let (mut core, route) = memory(rules(), &["a"]);
    miss(&mut core, route, 1, purge("/x"), START, &["a"]);
    miss(&mut core, route, 2, purge("/x"), START, &["a"]);
    assert!(core.delete(START, JobId::new(2)));
    assert_eq!(ids(&sent(&mut core, START + 1_000)), [1]);
}

#[test]
fn rule_5_bounds_on_jobs_bytes_and_bodies_refuse_the_new_copy() {
    let (mut core, route) = memory(Rules { max_body: 10, ..rules() }, &["a"]);
    core.set_limits(Limits { max_jobs: 2, max_bytes: 60, ..limits() });
    let mut offer = |id: u64, body: &str| {
        let legs = vec![(whom("a"), Leg::Missed { last: last("reset", START), attempts: 1 })];
        core.defer(START, JobId::new(id), (route, START), request("PUT", "/x", body), legs)
    };
    assert_eq!(offer(1, "12345678901"), Err(Refused(Why::Body)));
    assert_eq!(offer(2, "1234567890"), Ok(()));
    assert_eq!(offer(3, "12345678901"), Err(Refused(Why::Body)));
    assert_eq!(offer(4, "1234567890"), Ok(()));
    assert_eq!(offer(5, "1"), Err(Refused(Why::Jobs)));
    core.set_limits(Limits { max_jobs: 3, max_bytes: 60, ..limits() });
    let legs = vec![(whom("a"), Leg::Missed { last: last("reset", START), attempts: 1 })];
    let refused = core.defer(START, JobId::new(6), (route, START), request("PUT", "/x", "1"), legs);
    assert_eq!(refused, Err(Refused(Why::Bytes)));
    core.check();
}

#[test]
fn rule_5_a_refused_request_gives_up_its_place() {
    let (mut core, route) = memory(rules(), &["a"]);
    miss(&mut core, route, 1, put("/x"), START, &["a"]);
    core.set_limits(Limits { max_jobs: 1, ..limits() });
    assert!(core.arrive(JobId::new(2), route, "a"));
    core.defer(START, JobId::new(2), (route, START), put("/x"), vec![(whom("a"), Leg::Behind)]).unwrap_err();
    let copy = core.next(START + 1_000).unwrap();
    core.tried(START + 1_000, copy.attempt, delivered());
    assert!(core.is_clear(), "nothing is left that others would wait for");
}

#[test]
fn rule_5_so_many_copies_are_in_flight_over_all_endpoints_and_each_has_its_turn() {
    let names: Vec<String> = (0..20).map(|number| format!("e{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut core, route) = memory(Rules { order: Order::None, ..rules() }, &names);
    for id in 1..=3 {
        miss(&mut core, route, id, put("/x"), START, &names);
    }
    let mut seen = Vec::new();
    let mut flying = sent(&mut core, START + 1_000);
    while !flying.is_empty() {
        assert!(flying.len() <= 8);
        let copy = flying.remove(0);
        seen.push(copy.whom.key.clone());
        core.tried(START + 1_000, copy.attempt, delivered());
        flying.extend(sent(&mut core, START + 1_000));
    }
    assert_eq!(seen.len(), 60);
    let mut first: Vec<_> = seen[..20].to_vec();
    first.sort();
    first.dedup();
    assert_eq!(first.len(), 20, "nobody is served twice before everybody was served once");
}

#[test]
fn backoff_has_one_probe_at_a_time_for_each_endpoint_and_its_pauses_grow() {
    let (mut core, route) = memory(Rules { order: Order::None, ..rules() }, &["a"]);
    core.set_limits(Limits::default());
    for id in 1..=5 {
        miss(&mut core, route, id, put("/x"), START, &["a"]);
    }
    let mut now = START;
    let mut pauses = Vec::new();
    for _ in 0..10 {
        let at = core.wake_at().unwrap();
        assert!(sent(&mut core, at - 1).is_empty());
        pauses.push(at - now);
        now = at;
        let probes = sent(&mut core, now);
        assert_eq!(probes.len(), 1);
        core.tried(now, probes[0].attempt, missed());
    }
    assert!(pauses[0] >= 250 && pauses[0] < 400, "{pauses:?}");
    assert!(pauses.iter().all(|pause| (250..=30_000).contains(pause)), "{pauses:?}");
    assert!(pauses[9] > 20_000, "{pauses:?}");
    let probe = core.next(now + 40_000).unwrap();
    core.tried(now + 40_000, probe.attempt, delivered());
    assert_eq!(sent(&mut core, now + 40_000).len(), 4, "and then it is given everything");
}

#[test]
fn an_endpoint_that_is_ready_again_is_tried_at_once_and_one_that_is_not_is_not_tried() {
    let (mut core, route) = memory(rules(), &["a"]);
    miss(&mut core, route, 1, put("/x"), START, &["a"]);
    core.members(START + 10, members(&[("a", false)]));
    assert!(sent(&mut core, START + 60_000).is_empty());
    core.members(START + 60_010, members(&[("a", true)]));
    assert_eq!(ids(&sent(&mut core, START + 60_010)), [1]);
}

#[test]
fn identity_a_pod_gets_its_deliveries_at_its_new_address_and_no_other_pod_does() {
    let (mut core, route) = memory(rules(), &["cache-0", "cache-1"]);
    miss(&mut core, route, 1, put("/x"), START, &["cache-0"]);
    core.members(START + 1, members(&[("cache-1", true)]));
    assert!(sent(&mut core, START + 60_000).is_empty());
    let member = Member { address: "10.9.9.9:80".into(), ready: true };
    let moved: Members = [("cache-0".into(), member)].into_iter().collect();
    core.members(START + 60_001, Arc::new(moved));
    let copies = sent(&mut core, START + 60_001);
    assert_eq!((copies.len(), &*copies[0].address), (1, "10.9.9.9:80"));
}

#[test]
fn gone_keep_waits_and_gone_drop_drops_and_counts() {
    let (mut core, keep) = memory(rules(), &["a"]);
    let drop = core.route("drop", Rules { gone: Gone::Drop, ..rules() });
    miss(&mut core, keep, 1, put("/x"), START, &["a"]);
    miss(&mut core, drop, 2, put("/x"), START, &["a"]);
    core.members(START + 1, members(&[]));
    assert_eq!(owed(&core, "a"), [1]);
    let events = core.take_events();
    assert_eq!((events.len(), events[0].state, &*events[0].route), (1, State::Dropped, "drop"));
}

#[test]
fn old_deliveries_are_given_up_and_remembered_as_expired() {
    let (mut core, route) = memory(Rules { keep: Duration::from_secs(10), ..rules() }, &["a"]);
    core.members(START, members(&[]));
    miss(&mut core, route, 1, put("/x"), START, &["a"]);
    core.tick(START + 9_999);
    assert_eq!(owed(&core, "a"), [1]);
    core.tick(START + 10_000);
    assert!(owed(&core, "a").is_empty());
    assert_eq!(core.show(&Query { state: Some(JobState::Expired), ..Query::default() }).len(), 1);
    core.tick(START + 20_000);
    assert!(core.show(&Query::default()).is_empty(), "and forgotten after the same time again");
}

#[test]
fn a_copy_on_its_way_when_its_time_is_over_may_still_arrive() {
    let (mut core, route) = memory(Rules { keep: Duration::from_secs(10), ..rules() }, &["a"]);
    for (id, verdict, state) in [(1, delivered(), State::Delivered), (2, missed(), State::Expired)] {
        miss(&mut core, route, id, put("/x"), START, &["a"]);
        let copy = core.next(START + 9_000).unwrap();
        core.tick(START + 11_000);
        core.tried(START + 11_000, copy.attempt, verdict);
        assert_eq!(core.take_events().pop().unwrap().state, state);
        assert!(owed(&core, "a").is_empty());
    }
}

#[test]
fn an_answer_that_is_no_miss_ends_the_delivery_as_refused() {
    let (mut core, route) = memory(rules(), &["a"]);
    miss(&mut core, route, 1, put("/x"), START, &["a"]);
    let copy = core.next(START + 1_000).unwrap();
    let answer = Last { outcome: "client_error", status: Some(404), at: START + 1_000, error: None };
    core.tried(START + 1_000, copy.attempt, Verdict::Refused(answer));
    assert_eq!(core.take_events()[0].state, State::Refused);
    assert!(core.is_clear());
}

#[test]
fn rule_7_a_cancelled_copy_waits_in_its_place_and_counts_for_nothing() {
    let (mut core, route) = memory(rules(), &["a"]);
    miss(&mut core, route, 1, put("/x"), START, &["a"]);
    miss(&mut core, route, 2, put("/x"), START, &["a"]);
    let copy = core.next(START + 1_000).unwrap();
    core.tried(START + 1_000, copy.attempt, Verdict::Cancelled);
    let again = core.next(START + 1_000).unwrap();
    assert_eq!((again.job.get(), again.number), (1, copy.number));
}

#[test]
fn rule_9_at_most_so_many_done_jobs_are_remembered() {
    let (mut core, route) = memory(rules(), &["a"]);
    core.set_limits(Limits { remembered: 3, ..limits() });
    for id in 1..=6 {
        miss(&mut core, route, id, put(&format!("/{id}")), START, &["a"]);
    }
    while let Some(copy) = core.next(START + 1_000) {
        core.tried(START + 1_000, copy.attempt, delivered());
    }
    let shown = core.show(&Query::default());
    assert_eq!(shown.len(), 3);
    assert!(core.show_one(JobId::new(6)).is_some() && core.show_one(JobId::new(3)).is_none());
}

#[test]
fn rule_9_jobs_are_shown_newest_first_and_can_be_chosen() {
    let (mut core, route) = memory(rules(), &["a", "b"]);
    let other = core.route("other", rules());
    miss(&mut core, route, 1, purge("/x"), START, &["a"]);
    miss(&mut core, other, 2, put("/y"), START, &["b"]);
    miss(&mut core, route, 3, put("/z"), START, &["a", "b"]);
    let found = |query: Query| -> Vec<String> {
        let shown = serde_json::to_value(core.show(&query)).unwrap();
        shown.as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().trim_start_matches('0').into()).collect()
    };
    assert_eq!(found(Query::default()), ["3", "2", "1"]);
    assert_eq!(found(Query { endpoint: Some("a:80".into()), ..Query::default() }), ["3", "1"]);
    assert_eq!(found(Query { route: Some("other".into()), ..Query::default() }), ["2"]);
    assert_eq!(found(Query { limit: Some(1), after: Some(JobId::new(3)), ..Query::default() }), ["2"]);
    assert_eq!(found(Query { state: Some(JobState::Done), ..Query::default() }).len(), 0);
    let shown = serde_json::to_string(&core.show_one(JobId::new(1))).unwrap();
    assert_eq!(
        shown,
        r#"{"id":"0000000000000001","route":"purges","method":"PURGE","uri":"/x","host":"cache","#.to_owned()
            + r#""ts":"2026-09-21T14:13:20.000Z","expires":"2026-09-21T15:13:20.000Z","bytes":19,"state":"owed","#
            + r#""deliveries":[{"endpoint":"a:80","pod":null,"state":"owed","attempts":1,"#
            + r#""last":{"outcome":"connect","status":null,"at":"2026-09-21T14:13:20.000Z","error":null}}]}"#
    );
}

#[test]
fn rule_9_a_retry_ends_the_pause_and_a_deletion_drops() {
    let (mut core, route) = memory(rules(), &["a"]);
    miss(&mut core, route, 1, put("/x"), START, &["a"]);
    assert!(sent(&mut core, START + 1).is_empty());
    assert_eq!(core.retry(START + 1, JobId::new(1)), Retry::Begun(1));
    let copies = sent(&mut core, START + 1);
    assert_eq!(ids(&copies), [1]);
    assert!(core.delete(START + 1, JobId::new(1)));
    core.tried(START + 2, copies[0].attempt, missed());
    assert!(core.is_clear() && core.show(&Query::default()).is_empty());
    assert_eq!(core.retry(START + 2, JobId::new(1)), Retry::Unknown);
    assert!(!core.delete(START + 2, JobId::new(1)));
}

#[test]
fn rule_9_a_retry_is_not_forgotten_by_who_sends_with_an_earlier_time() {
    let (mut core, route) = memory(rules(), &["a"]);
    miss(&mut core, route, 1, put("/x"), START, &["a"]);
    assert_eq!(core.retry(START + 2, JobId::new(1)), Retry::Begun(1));
    assert!(sent(&mut core, START + 1).is_empty());
    assert_eq!(core.wake_at(), Some(START + 2));
    assert_eq!(ids(&sent(&mut core, START + 2)), [1]);
}
