//! Runs a test inside a network namespace of its own, with addresses that count as real ones.
//!
//! The Kubernetes API server refuses loopback addresses in EndpointSlices. Inside the namespace `lo` also has
//! 192.0.2.0/24 and [`ADDRESSES_V6`] addresses of 2001:db8::/64: each is then a pod that a test can listen on, no other
//! test sees it, and no packet leaves the namespace.
//!
//! Entering a namespace from within a process takes `unsafe`. So the test binary runs itself again, this one test only,
//! under `unshare`, and passes on how that ended.

use std::{
    env,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    process::{Command, Stdio},
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use crate::eventually::scaled;
use crate::packages;
use crate::process::{Process, tail};

/// Set in the inner run, to the test's name.
const INNER: &str = "TESTKIT_NETNS";

/// Time limit of a test inside.
const PATIENCE: Duration = Duration::from_secs(600);

/// How many IPv6 addresses there are: 2001:db8::1 and the following.
pub const ADDRESSES_V6: u16 = 64;

/// The name of the test function this is expanded in, as the test harness knows it.
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        $crate::netns::name_of(::std::any::type_name_of_val(&here))
    }};
}

/// The `n`th address of 192.0.2.0/24, each of which can be listened on inside. 192.0.2.1 is the node's own.
#[must_use]
pub fn ipv4(n: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, n).into()
}

/// The `n`th address of 2001:db8::/64; 1 to [`ADDRESSES_V6`] can be listened on inside.
#[must_use]
pub fn ipv6(n: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, n).into()
}

/// Runs the test inside a fresh network namespace.
///
/// ```no_run
/// #[test]
/// fn endpoints_have_real_addresses() {
///     testkit::netns::inside(testkit::test_name!(), async || {
///         tokio::net::TcpListener::bind((testkit::netns::ipv4(7), 0)).await.expect("an address of the namespace");
///     });
/// }
/// ```
///
/// # Panics
/// If the test fails inside, or the system permits no namespace: the message then says what is missing.
pub fn inside(name: &str, test: impl AsyncFnOnce()) {
    if env::var(INNER).as_deref() != Ok(name) {
        return run_again(name);
    }
    bring_up();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("the system has room for a runtime").block_on(test());
}

/// Whether this process is inside already.
#[must_use]
pub fn entered() -> bool {
    env::var_os(INNER).is_some()
}

/// The harness's name of a test, from the path of an item within it. Used by [`test_name!`](crate::test_name).
#[must_use]
pub fn name_of(item: &'static str) -> &'static str {
    let path = item.strip_suffix("::here").unwrap_or(item);
    let path = path.trim_end_matches("::{{closure}}");
    path.split_once("::").map_or(path, |(_crate, test)| test)
}

/// The outer run: this binary again, inside, with nothing but the one test.
fn run_again(name: &str) {
    let binary = env::current_exe().expect("the test binary has a path");
    let output = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    let mut command = enter();
    command.arg(binary).args(["--exact", name, "--nocapture", "--test-threads=1"]).env(INNER, name);
    let mut process = Process::spawn_command(command, output.path()).unwrap_or_else(|e| panic!("{e}"));
    let deadline = Instant::now() + scaled(PATIENCE);
    let status = loop {
        match process.ended() {
            Some(status) => break Some(status),
            None if Instant::now() >= deadline => break None,
            None => thread::sleep(Duration::from_millis(10)),
        }
    };
    drop(process);
    let text = tail(output.path(), usize::MAX);
    println!("{text}");
    match status {
        None => panic!("`{name}` did not end within {PATIENCE:?} inside its network namespace"),
        Some(status) => assert!(status.success(), "`{name}` failed inside its network namespace ({status}), see above"),
    }
    assert!(text.contains("test result: ok. 1 passed"), "no test is called `{name}`: pass `testkit::test_name!()`");
}

/// `unshare` with the arguments that work here.
fn enter() -> Command {
    static UNSHARE: LazyLock<Result<Vec<&'static str>, String>> = LazyLock::new(|| {
        let unshare = packages::program("unshare")?;
        // A privileged process can do without the user namespace, where only that is forbidden.
        let ways: [&[&str]; 2] = [&["--user", "--map-root-user", "--net"], &["--net"]];
        let mut refusals = Vec::new();
        for way in ways {
            let tried = Command::new(&unshare).args(way).arg("true").stdin(Stdio::null()).output();
            match tried {
                Ok(output) if output.status.success() => return Ok(way.to_vec()),
                Ok(output) => refusals.push(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
                Err(error) => refusals.push(error.to_string()),
            }
        }
        Err(format!(
            "this test runs in a network namespace of its own, and the system permits none ({}). Permit user \
             namespaces (sysctl kernel.unprivileged_userns_clone=1 or kernel.apparmor_restrict_unprivileged_userns=0; \
             for a container a seccomp profile that allows `unshare`), or run as root with CAP_SYS_ADMIN",
            refusals.join("; ")
        ))
    });
    let way = UNSHARE.as_ref().unwrap_or_else(|e| panic!("{e}"));
    let mut command = Command::new(packages::program("unshare").unwrap_or_else(|e| panic!("{e}")));
    command.args(way).arg("--");
    command
}

/// The inner run: gives `lo` its addresses, and waits until each can be reached.
fn bring_up() {
    let ip = packages::program("ip").unwrap_or_else(|e| panic!("{e}"));
    let mut script = String::from("link set lo up\naddress add 192.0.2.1/24 dev lo\n");
    for n in 1..=ADDRESSES_V6 {
        // Without duplicate address detection, which would make it unusable for a second.
        script.push_str(&format!("address add {}/64 dev lo nodad\n", ipv6(n)));
    }
    let mut child =
        Command::new(&ip).args(["-batch", "-"]).stdin(Stdio::piped()).spawn().expect("`ip` was found and can be run");
    child.stdin.take().expect("stdin was piped").write_all(script.as_bytes()).expect("`ip` reads its input");
    let status = child.wait().expect("a child of ours can be waited for");
    assert!(status.success(), "`ip` could not set up the network namespace ({status})");
    let deadline = Instant::now() + scaled(PATIENCE);
    while local_routes(&ip) < ADDRESSES_V6.into() {
        assert!(Instant::now() < deadline, "the IPv6 addresses of the network namespace have no routes");
        thread::sleep(Duration::from_millis(10));
    }
}

/// How many IPv6 addresses of the namespace have a route. An address that was just given has none until a worker of the
/// kernel has come to it, which other namespaces can delay: a connect is then refused with "network is unreachable".
fn local_routes(ip: &Path) -> usize {
    let output = Command::new(ip).args(["-6", "route", "show", "table", "local"]).output();
    let output = output.expect("`ip` was found and can be run");
    String::from_utf8_lossy(&output.stdout).matches("local 2001:db8::").count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_knows_its_name() {
        assert_eq!(crate::test_name!(), "netns::tests::a_test_knows_its_name");
    }

    #[test]
    fn every_address_can_be_listened_on_and_reached() {
        inside(crate::test_name!(), async || {
            for address in [ipv4(1), ipv4(2), ipv4(254), ipv6(1), ipv6(ADDRESSES_V6)] {
                let listener = tokio::net::TcpListener::bind((address, 0)).await.expect("an address of the namespace");
                let to = listener.local_addr().expect("a bound listener has an address");
                // Not both at once: without a connection there is nothing to accept.
                let _client = tokio::net::TcpStream::connect(to).await.expect("the listener is reached");
                listener.accept().await.expect("the listener accepts");
            }
        });
    }

    #[test]
    fn the_outer_run_fails_where_the_inner_one_does() {
        let name = crate::test_name!();
        if env::var(INNER).as_deref() == Ok(name) {
            panic!("this is the inner run");
        }
        let failure = std::panic::catch_unwind(|| run_again(name)).expect_err("the inner run failed");
        let text = failure.downcast_ref::<String>().expect("a formatted panic");
        assert!(text.contains("failed inside its network namespace"), "{text}");
    }
}
