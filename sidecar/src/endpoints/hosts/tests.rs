//! Tests that everything outside of the block stays, whatever the file contains, and that the file keeps its mode, owner and links.

use std::os::unix::fs::symlink;

use proptest::{collection::vec, prelude::*};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::endpoints::{
    document::tests::{entry, slice},
    service::Published,
};

const OTHERS: &str = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n";

fn key(name: &str) -> ServiceKey {
    ServiceKey { namespace: "shop".into(), name: name.into() }
}

fn parts(lines: &[(&str, &str)]) -> Parts {
    lines.iter().map(|(name, text)| (key(name), (*text).to_owned())).collect()
}

/// A folder with a hosts file of this content.
fn bed(content: &str) -> (TempDir, HostsFile) {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let path = folder.path().join("hosts");
    fs::write(&path, content).expect("it can be written");
    (folder, HostsFile { path, domain: "cluster.local".into() })
}

fn read(file: &HostsFile) -> String {
    fs::read_to_string(&file.path).expect("it can be read")
}

fn block(text: &str) -> String {
    format!("{BEGIN}\n{text}{END}\n")
}

#[test]
fn a_bare_name_that_may_mean_something_else_is_left_out() {
    let (_folder, file) = bed("");
    let other = ServiceKey { namespace: "other".into(), name: "web".into() };
    let mut all = parts(&[
        ("db", "192.0.2.1\tdb-0.db db-0\n192.0.2.2\tweb.db web\n192.0.2.4\tsame.db same\n"),
        ("web", "192.0.2.1\tdb-0.web db-0\n"),
    ]);
    all.insert(other, "192.0.2.3\tsame.web same\n".into());
    file.write(&all, &[]).expect("it can be written");
    let lines = read(&file);
    for line in [
        "192.0.2.1\tdb-0.db db-0\n",
        "192.0.2.2\tweb.db\n",
        "192.0.2.4\tsame.db\n",
        "192.0.2.1\tdb-0.web db-0\n",
        "192.0.2.3\tsame.web\n",
    ] {
        assert!(lines.contains(line), "{line:?} in {lines}");
    }
}

#[test]
fn the_names_are_those_that_dns_has_and_only_ready_endpoints_have_one() {
    let endpoints = json!([
        {"addresses": ["192.0.2.2"], "hostname": "db-1", "targetRef": {"kind": "Pod", "name": "x", "uid": "u1"}},
        {"addresses": ["192.0.2.1"], "targetRef": {"kind": "Pod", "name": "db-7f9c", "uid": "u2"}},
        {"addresses": ["192.0.2.3"], "hostname": "db-3", "conditions": {"ready": false}},
        {"addresses": ["192.0.2.4"]},
        {"addresses": ["192.0.2.5"], "hostname": "db-5\n192.0.2.66\tevil"},
    ]);
    let ports = json!([{"name": "sql", "port": 5432}, {"name": "http", "port": 80}]);
    let published = Published::new(entry(&[slice("a", &endpoints, &ports)]).into(), None, jiff::Timestamp::UNIX_EPOCH);
    let file = HostsFile { path: "/nowhere".into(), domain: "cluster.local".into() };
    let lines = file.lines(&key("db"), &published);
    assert_eq!(
        lines,
        "192.0.2.1\tdb-7f9c.db.shop.svc.cluster.local db-7f9c.db.shop.svc db-7f9c.db.shop db-7f9c.db db-7f9c\n\
         192.0.2.2\tdb-1.db.shop.svc.cluster.local db-1.db.shop.svc db-1.db.shop db-1.db x\n"
    );
}

#[test]
fn the_block_is_put_at_the_end_then_replaced_where_it_is() {
    let (_folder, file) = bed(OTHERS);
    let both = [key("a"), key("b")];
    let one = parts(&[("a", "192.0.2.1\tx.a\n")]);
    assert_eq!(file.write(&one, &both).ok(), Some(WriteResult::Replaced));
    assert_eq!(read(&file), format!("{OTHERS}{}", block("# service shop/a\n192.0.2.1\tx.a\n")));
    assert_eq!(file.write(&one, &both).ok(), Some(WriteResult::Unchanged));
    // Lines that others append stay, and so do those of a service without a complete list.
    fs::write(&file.path, read(&file) + "192.0.2.9\tbehind\n").expect("it can be written");
    assert!(file.write(&parts(&[("b", "192.0.2.2\tx.b\n")]), &both).is_ok());
    let expected = block("# service shop/a\n192.0.2.1\tx.a\n# service shop/b\n192.0.2.2\tx.b\n");
    assert_eq!(read(&file), format!("{OTHERS}{expected}192.0.2.9\tbehind\n"));
    // The lines of a service that is no longer followed are removed.
    assert!(file.write(&parts(&[("b", "")]), &both[1..]).is_ok());
    assert_eq!(read(&file), format!("{OTHERS}{}192.0.2.9\tbehind\n", block("# service shop/b\n")));
}

#[test]
fn mode_and_link_stay_and_nothing_is_left_beside() {
    let (folder, file) = bed(OTHERS);
    fs::set_permissions(&file.path, fs::Permissions::from_mode(0o640)).expect("it is ours");
    let link = folder.path().join("link");
    symlink("hosts", &link).expect("a link can be made");
    let linked = HostsFile { path: link.clone(), ..file.clone() };
    assert_eq!(linked.write(&parts(&[("a", "192.0.2.1\tx\n")]), &[]).ok(), Some(WriteResult::Replaced));
    assert!(link.is_symlink() && read(&file).contains("192.0.2.1"));
    assert_eq!(fs::metadata(&file.path).expect("it is there").permissions().mode() & 0o7777, 0o640);
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).expect("it is there").flatten().map(|e| e.file_name()).collect();
    names.sort();
    assert_eq!(names, ["hosts", "link"]);
}

#[test]
fn a_file_that_is_not_there_is_made() {
    let (_folder, file) = bed("");
    fs::remove_file(&file.path).expect("it is there");
    assert_eq!(file.write(&parts(&[("a", "192.0.2.1\tx\n")]), &[]).ok(), Some(WriteResult::Replaced));
    assert_eq!(read(&file), block("# service shop/a\n192.0.2.1\tx\n"));
    let nowhere = HostsFile { path: "/nowhere/hosts".into(), ..file };
    let refusal = nowhere.write(&parts(&[("a", "")]), &[]).expect_err("there is no such folder");
    assert!(refusal.to_string().contains("/nowhere/hosts"), "{refusal}");
}

#[test]
fn what_is_not_a_regular_file_is_neither_waited_for_nor_replaced() {
    let (folder, file) = bed("");
    let pipe = folder.path().join("pipe");
    testkit::named_pipe::make(&pipe);
    let refusal = HostsFile { path: pipe.clone(), ..file }.write(&parts(&[("a", "")]), &[]).expect_err("it is a pipe");
    assert!(refusal.to_string().contains("pipe: it is a named pipe"), "{refusal}");
    assert!(fs::metadata(&pipe).is_ok_and(|found| !found.is_file()));
}

#[test]
fn a_torn_block_is_left_alone_and_named() {
    for torn in [
        format!("{OTHERS}{BEGIN}\n192.0.2.1\tx\n"),
        format!("{OTHERS}{END}\n"),
        format!("{BEGIN}\n{BEGIN}\n{END}\n"),
        format!("{}{}", block(""), block("")),
    ] {
        let (_folder, file) = bed(&torn);
        let refusal = file.write(&parts(&[("a", "192.0.2.1\tx\n")]), &[]).expect_err("it is torn");
        assert!(refusal.to_string().contains("hosts has only one of the lines"), "{refusal}");
        assert_eq!(read(&file), torn);
    }
}

#[test]
fn writing_in_place_leaves_no_rest_of_a_longer_content() {
    let (_folder, file) = bed(OTHERS);
    for content in ["# a\n# b\n", "# a\n", "", "# longer\n# than\n# before\n"] {
        let old = read(&file);
        write_over(&file.path, old.as_bytes(), content.as_bytes()).expect("it can be written");
        assert_eq!(read(&file), content);
    }
}

proptest! {
    #[test]
    fn other_lines_stay_byte_for_byte(
        before in vec("[ -~]{0,12}(\r)?", 0..5),
        after in vec(any::<u8>(), 0..60),
        lines in vec("192[.]0[.]2[.][0-9]\tx\n", 0..3),
    ) {
        let before: String = before.into_iter().map(|line| line + "\n").collect();
        let mut old = format!("{before}{}", block("# service shop/a\nold\n")).into_bytes();
        old.extend(&after);
        let lines = lines.concat();
        let Some(new) = with_block(&old, &parts(&[("a", &lines)]), &[]) else {
            // The random content happens to contain a marker.
            prop_assert!(before.contains("fanfare"));
            return Ok(());
        };
        let mut expected = format!("{before}{}", block(&format!("# service shop/a\n{lines}"))).into_bytes();
        expected.extend(&after);
        prop_assert_eq!(new, expected);
    }

    #[test]
    fn no_content_panics_or_loses_a_line(old in vec(any::<u8>(), 0..200)) {
        let new = with_block(&old, &parts(&[("a", "192.0.2.1\tx\n")]), &[]).expect("no marker is in it");
        prop_assert!(new.starts_with(&old));
    }
}
