//! Nothing that a test has started outlives it.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::eventually::scaled;

const PATIENCE: Duration = Duration::from_secs(60);

/// Set in the process that holds children and is ended by the test.
const HOLDER: &str = "TESTKIT_HOLDER";

/// A master with two workers, which would run on without it; one of them is in a group of its own, of which it tells.
const SERVER: &str = "sleep 600 & setsid sleep 600 & echo outside $!; wait";

/// It, and the leader of the other group.
fn server(folder: &Path) -> (Process, u32) {
    let log = folder.join("log");
    let process = Process::spawn(Path::new("/bin/sh"), &["-c".into(), SERVER.into()], &log).expect("sh can be run");
    let outside = || tail(&log, 1).strip_prefix("outside ").and_then(|id| id.parse().ok());
    wait_until("the workers to run", || outside().is_some_and(|id| members(id) == 1) && members(process.id()) == 2);
    (process, outside().expect("it has told it"))
}

/// How many processes run in a group. One that has ended and that nobody has waited for is none of them.
fn members(group: u32) -> usize {
    let in_group = |stat: String| {
        // The name may hold anything, even spaces and parentheses: the state, the parent and the group follow the last one.
        let (_, rest) = stat.rsplit_once(") ")?;
        let mut fields = rest.split(' ');
        let alive = fields.next()? != "Z";
        (alive && fields.nth(1)?.parse() == Ok(group)).then_some(())
    };
    let all = fs::read_dir("/proc").expect("there is /proc").flatten();
    all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok().and_then(in_group)).count()
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + scaled(PATIENCE);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(POLL);
    }
}

/// Runs `test` again in a process of its own, which tells of the group that it has started; then `end` ends it.
fn groups_end_with_the_process(test: &str, end: impl FnOnce(Pid)) {
    if env::var_os(HOLDER).is_some() {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let (server, outside) = server(folder.path());
        println!("groups {} {outside}", server.id());
        // For ever: the server is never dropped.
        std::io::stdin().lines().for_each(drop);
        panic!("the holder fails");
    }
    let mut holder = Command::new(env::current_exe().expect("the test binary has a path"));
    holder.args(["--exact", test, "--nocapture"]).env(HOLDER, "1").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = holder.stderr(Stdio::null()).spawn().expect("the test binary can be run");
    let mut lines = BufReader::new(holder.stdout.take().expect("stdout was piped")).lines().map_while(Result::ok);
    let told = lines.find_map(|line| line.split_once("groups ").map(|(_, ids)| ids.to_owned()));
    let told = told.expect("the holder tells which groups it has started");
    let groups: Vec<u32> = told.split(' ').map(|id| id.parse().expect("a number")).collect();
    assert_eq!((members(groups[0]), members(groups[1])), (2, 1), "they run as long as the holder does");
    end(Pid::from_child(&holder));
    // It waits for this, if it still runs.
    drop(holder.stdin.take());
    holder.wait().expect("the holder can be waited for");
    wait_until("the groups to end", || groups.iter().all(|group| members(*group) == 0));
}

#[test]
fn groups_end_with_a_test_process_that_is_killed() {
    groups_end_with_the_process(crate::test_name!(), |holder| kill_process(holder, Signal::KILL).expect("it runs"));
}

#[test]
fn groups_end_with_a_test_process_that_is_interrupted() {
    groups_end_with_the_process(crate::test_name!(), |holder| kill_process(holder, Signal::INT).expect("it runs"));
}

#[test]
fn groups_end_with_a_test_that_panics() {
    groups_end_with_the_process(crate::test_name!(), |_holder| {});
}

#[test]
fn what_a_process_has_started_ends_when_it_is_dropped_wherever_it_is() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (server, outside) = server(folder.path());
    let group = server.id();
    drop(server);
    wait_until("the groups to end", || members(group) == 0 && members(outside) == 0);
}

#[test]
fn the_rest_ends_when_the_leader_has_ended() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (mut server, outside) = server(folder.path());
    let group = server.id();
    server.signal(Signal::TERM);
    wait_until("the leader to end", || server.ended().is_some());
    wait_until("the groups to end", || members(group) == 0 && members(outside) == 0);
}
