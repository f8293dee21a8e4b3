//! The hosts file, also as a mount as in a pod, and the command.

use std::{fs, path::Path, process::Command};

use rustix::process::Signal;
use tempfile::TempDir;

use super::bed::Bed;
use crate::process::Fanfare;

/// Makes the file a mount, which cannot be replaced by a rename, and executes the rest.
const WITH_A_MOUNT: &str = "mount --bind \"$HOSTS\" \"$HOSTS\" && exec \"$@\"";

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test]
async fn a_hosts_file_that_is_a_mount_is_written_in_place() {
    let bed = Bed::new("mount").await;
    bed.slice("db-1", "db", [1, 2]).await;
    let folder = TempDir::new().expect("a temporary folder");
    let hosts = folder.path().join("hosts");
    fs::write(&hosts, "127.0.0.1\tlocalhost\n").expect("it can be written");
    let before = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&hosts).expect("it is there"));
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", WITH_A_MOUNT, "sh"]);
    command.args([env!("CARGO_BIN_EXE_fanfare"), "endpoints", "-s", "db", "--listen=127.0.0.1:0", "--hosts-file"]);
    command
        .arg(&hosts)
        .args(["-n", &bed.namespace, "-k", &bed.kubeconfig()])
        .env("HOSTS", &hosts)
        .env_remove("KUBECONFIG");
    let fanfare = Fanfare::spawn(command.into());
    let name = |n: u32| format!("10.1.0.{n}\th-{n}.db.{}.svc.cluster.local", bed.namespace);
    testkit::eventually!("the names", read(&hosts), |text| text.contains(&name(2)));
    bed.slice("db-1", "db", [3]).await;
    let text = testkit::eventually!("the change", read(&hosts), |text| text.contains(&name(3)));
    assert!(text.starts_with("127.0.0.1\tlocalhost\n") && !text.contains(&name(1)), "{text}");
    assert_eq!(text.matches("fanfare endpoints").count(), 2, "one block: {text}");
    let after = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&hosts).expect("it is there"));
    assert_eq!(before, after, "it is the same file");
    assert_eq!(fs::read_dir(folder.path()).expect("it is there").count(), 1, "nothing is left beside it");
    fanfare.stderr.wait("it to be said", |log| log.contains("written in place")).await;
}

#[tokio::test]
async fn the_command_runs_on_a_change_without_a_shell_and_ends_with_the_process() {
    let bed = Bed::new("command").await;
    bed.slice("db-1", "db", [1]).await;
    let folder = TempDir::new().expect("a temporary folder");
    let script = folder.path().join("a $(touch injected) command");
    let log = folder.path().join("log");
    let text = "#!/bin/sh\necho \"$FANFARE_CHANGED $2\" >> \"$1\"\nexec sleep 600\n";
    fs::write(&script, text).expect("it can be written");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("it is ours");
    let command = format!("'{}' '{}' '; touch {}/injected'", script.display(), log.display(), folder.path().display());
    let flags = ["--exec", &command, "--exec-debounce=10ms", "--exec-timeout=1s"];
    let (fanfare, _address) = bed.start("db", &flags).await;
    let line = format!("{}/db ; touch {}/injected\n", bed.namespace, folder.path().display());
    // It is killed after a second, and runs again, because it failed.
    testkit::eventually!("two runs", read(&log), |text| text.starts_with(&line.repeat(2)));
    fanfare.stderr.wait("the reason", |log| log.contains("took too long and was killed")).await;
    fanfare.signal(Signal::TERM);
    assert_eq!(fanfare.finish().await.code, Some(0));
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).expect("it is there").flatten().map(|e| e.file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
}

/// Mounts a small disk with a hosts file, and puts it at a path in another folder if it has to be written in place. Executes the rest.
const ON_A_DISK: &str = "mount -t tmpfs -o size=64k none \"$DISK\" && printf '127.0.0.1\\tlocalhost\\n' > \"$DISK/hosts\" && \
                         if test \"$HOSTS\" != \"$DISK/hosts\"; then mount --bind \"$DISK/hosts\" \"$HOSTS\"; fi && exec \"$@\"";

#[tokio::test]
async fn a_hosts_file_on_a_full_disk_stays_whole_and_is_written_when_there_is_room() {
    let bed = Bed::new("full").await;
    let name = |n: u32| format!("10.1.{}.{}\th-{n}.db.{}.svc.cluster.local", n / 256, n % 256, bed.namespace);
    for in_place in [false, true] {
        bed.slice("db-1", "db", [1]).await;
        let (mount, other) = (TempDir::new().expect("a folder"), TempDir::new().expect("a folder"));
        let path = if in_place { other.path() } else { mount.path() }.join("hosts");
        if in_place {
            fs::write(&path, "").expect("it can be written");
        }
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "--", "sh", "-c", ON_A_DISK, "sh"]);
        command.args([env!("CARGO_BIN_EXE_fanfare"), "endpoints", "-s", "db", "--listen=127.0.0.1:0", "--hosts-file"]);
        command.arg(&path).args(["-n", &bed.namespace, "-k", &bed.kubeconfig()]);
        command.env("DISK", mount.path()).env("HOSTS", &path).env_remove("KUBECONFIG");
        let fanfare = Fanfare::spawn(command.into());
        fanfare.listening("for endpoints").await;
        let rest = mount.path().strip_prefix("/").expect("an absolute path");
        let disk = Path::new("/proc").join(fanfare.pid().to_string()).join("root").join(rest);
        let hosts = disk.join("hosts");
        let before = testkit::eventually!("the first name", read(&hosts), |text| text.contains(&name(1)));
        let mut filler = fs::File::create(disk.join("filler")).expect("there is room for a name");
        while std::io::Write::write_all(&mut filler, &[0; 4096]).is_ok() {}
        // More than a page, so that the file needs more room than it has.
        bed.slice("db-1", "db", 2..202).await;
        fanfare.stderr.wait("the reason", |log| log.contains("No space left on device")).await;
        assert_eq!(read(&hosts), before, "in place: {in_place}");
        // Its blocks are free when it is closed, too.
        drop(filler);
        fs::remove_file(disk.join("filler")).expect("it is there");
        let after = testkit::eventually!("the last name", read(&hosts), |text| text.contains(&name(201)));
        assert!(after.starts_with("127.0.0.1\tlocalhost\n") && !after.contains(&name(1)), "{after}");
        assert_eq!(fs::read_dir(&disk).expect("it is there").count(), 1, "nothing is left beside it");
    }
}
