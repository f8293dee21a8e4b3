//! Process groups that end with this process, however it ends.

use std::{
    io::Write as _,
    os::unix::process::CommandExt as _,
    process::{ChildStdin, Command, Stdio},
    sync::LazyLock,
};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};

/// The guard process. It notes the groups that it is told of, and kills those that are left when its standard input ends:
/// that happens when this process ends, for any reason, because no other process has the other end of the pipe.
const GUARD: &str = r#"
trap '' HUP INT TERM
groups=
while read -r what group; do
    case $what in
    begin) groups="$groups $group" ;;
    end)
        others=
        for one in $groups; do [ "$one" = "$group" ] || others="$others $one"; done
        groups=$others
        ;;
    esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
"#;

/// The guard's standard input.
#[expect(clippy::zombie_processes, reason = "the guard outlives this process on purpose")]
static TO_GUARD: LazyLock<Mutex<ChildStdin>> = LazyLock::new(|| {
    let mut command = Command::new("sh");
    // In a group of its own, so that what ends the group of the tests (Ctrl-C, for one) leaves the guard to its work. Without
    // output, because it outlives this process by a moment, in which nobody who reads the output shall wait for it.
    command.args(["-c", GUARD]).process_group(0);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut guard = command.spawn().expect("every system has `sh`");
    Mutex::new(guard.stdin.take().expect("stdin was piped"))
});

/// A child and the processes that it has started in its group. Dropping this kills them; so does the end of this process.
#[derive(Debug)]
pub struct Group(Pid);

impl Group {
    /// The group that this child leads: it was started with `process_group(0)`.
    ///
    /// # Panics
    /// Where the number is that of no process.
    #[must_use]
    pub fn led_by(child: u32) -> Self {
        let leader = i32::try_from(child).ok().and_then(Pid::from_raw).expect("a child has a process id");
        let this = Self(leader);
        this.tell("begin");
        this
    }

    fn tell(&self, what: &str) {
        // A write of a few bytes to a pipe is atomic. It fails only if the guard was killed, and then nothing can be done.
        let _ = TO_GUARD.lock().write_all(format!("{what} {}\n", self.0.as_raw_nonzero()).as_bytes());
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It fails where all of them have ended.
        let _ = kill_process_group(self.0, Signal::KILL);
        self.tell("end");
    }
}
