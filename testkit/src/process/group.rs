//! Process groups that end with this process, however it ends, with everything that they have started.

use std::{
    fs,
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{ChildStdin, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// The guard process. It notes the groups that it is told of, and kills those that are left when its standard input ends:
/// that happens when this process ends, for any reason, because no other process has the other end of the pipe.
const GUARD: &str = r#"
trap '' HUP INT TERM
groups=
while read -r what group mark; do
    case $what in
    begin) groups="$groups $group:$mark" ;;
    end)
        others=
        for one in $groups; do [ "$one" = "$group:$mark" ] || others="$others $one"; done
        groups=$others
        ;;
    esac
done
for one in $groups; do
    kill -s KILL -- "-${one%%:*}"
    for marked in $(grep -lsz "^TESTKIT_GROUP=${one#*:}\$" /proc/[0-9]*/environ); do
        marked=${marked#/proc/}
        kill -s KILL "${marked%/environ}"
    done
done
"#;

/// By this variable, which processes inherit, those are found that a group has started outside of itself: what runs a command in a group of its
/// own cannot end it where it is itself killed.
const VARIABLE: &str = "TESTKIT_GROUP";

/// The guard's standard input.
#[expect(clippy::zombie_processes, reason = "the guard outlives this process on purpose")]
static TO_GUARD: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| {
    let mut command = Command::new("sh");
    // In a group of its own, so that what ends the group of the tests (Ctrl-C, for one) leaves the guard to its work. Without
    // output, because it outlives this process by a moment, in which nobody who reads the output shall wait for it.
    // Nor does it end with the group that this process may itself be in.
    command.args(["-c", GUARD]).process_group(0).env_remove(VARIABLE);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut guard = command.spawn().expect("every system has `sh`");
    Mutex::new(guard.stdin.take().expect("stdin was piped"))
});

/// What the processes of a group that is to be started will have in their environment.
#[derive(Debug)]
pub struct Mark(String);

/// A child and the processes that it has started. Dropping this kills them; so does the end of this process.
#[derive(Debug)]
pub struct Group {
    leader: Pid,
    mark: Mark,
}

// === impl Mark ===

impl Mark {
    /// Has the command lead a group of its own, whose processes are marked.
    #[must_use]
    pub fn on(command: &mut Command) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let this = Self(format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        command.process_group(0).env(VARIABLE, &this.0);
        this
    }

    /// The running processes that have it.
    fn processes(&self) -> Vec<Pid> {
        let variable = format!("{VARIABLE}={}", self.0);
        let marked = |pid: &i32| {
            // Another one that has ended meanwhile, or that belongs to somebody else.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|one| one == variable.as_bytes())
        };
        let all = fs::read_dir("/proc").expect("there is /proc").flatten();
        let ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(marked).filter_map(Pid::from_raw).collect()
    }
}

// === impl Group ===

impl Group {
    /// The group that this child leads.
    ///
    /// # Panics
    /// Where the number is that of no process.
    #[must_use]
    pub fn led_by(child: u32, mark: Mark) -> Self {
        let leader = i32::try_from(child).ok().and_then(Pid::from_raw).expect("a child has a process id");
        let this = Self { leader, mark };
        this.tell("begin");
        this
    }

    fn tell(&self, what: &str) {
        let line = format!("{what} {} {}\n", self.leader.as_raw_nonzero(), self.mark.0);
        // A write of a few bytes to a pipe is atomic. It fails only if the guard was killed, and then nothing can be done.
        let _ = TO_GUARD.lock().write_all(line.as_bytes());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It fails where all of them have ended.
        let _ = kill_process_group(self.leader, Signal::KILL);
        // What one of them has started in the moment before is there in the next round.
        for _ in 0..3 {
            for process in self.mark.processes() {
                let _ = kill_process(process, Signal::KILL);
            }
        }
        self.tell("end");
    }
}
