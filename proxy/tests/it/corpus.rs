//! The seed corpus of the fuzz targets through the same checks, on whatever toolchain the tests run.

#[expect(unreachable_pub, reason = "the fuzz targets are another crate")]
#[path = "../../../fuzz/src/lib.rs"]
mod checks;

use std::path::{Path, PathBuf};

use testkit::http::RequestHead;

/// The inputs of a target: name and content.
fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(paths.len() >= 10, "{} has only {} inputs", folder.display(), paths.len());
    paths.into_iter().map(|path| (path.clone(), std::fs::read(&path).expect("a file"))).collect()
}

/// Every input, and every input cut short at every place.
fn feed(target: &str, check: fn(&[u8])) {
    for (path, input) in inputs(target) {
        eprintln!("{}", path.display());
        check(&input);
        for end in (0..input.len().min(600)).step_by(3) {
            check(&input[..end]);
        }
    }
}

#[test]
fn request_heads() {
    feed("request_head", checks::request_head);
}

#[test]
fn response_heads() {
    feed("response_head", checks::response_head);
}

#[test]
fn chunked_bodies() {
    feed("chunked", checks::chunked);
}

#[test]
fn leg_heads() {
    feed("leg_head", checks::leg_head);
}

#[test]
fn proxy_headers() {
    feed("proxy_header", checks::proxy_header);
}

#[test]
fn heads_of_http2() {
    feed("http2_head", checks::http2_head);
}

#[test]
fn control_fields() {
    feed("control", checks::control);
}

#[test]
fn compare_ignore() {
    feed("compare_ignore", checks::compare_ignore);
}

#[test]
fn frames_of_http2() {
    feed("http2_frames", checks::http2_frames);
}

#[test]
fn responses_of_http2() {
    feed("http2_responses", checks::http2_responses);
}

#[test]
fn allow_rules() {
    feed("allow_rule", checks::allow_rule);
}

#[test]
fn token_files() {
    feed("token_file", checks::token_file);
}

#[test]
fn fields_of_grpc() {
    feed("grpc_fields", checks::grpc_fields);
}

#[test]
fn a_parser_that_is_not_the_proxys_own_reads_leg_heads_alike() {
    let mut made = 0;
    for (path, input) in inputs("leg_head").into_iter().chain(inputs("request_head")) {
        for head in checks::leg_heads(&input) {
            let read = RequestHead::parse(&head);
            let read = read.unwrap_or_else(|e| panic!("{}: {e}: {}", path.display(), head.escape_ascii()));
            assert_eq!(read.headers.all("host").len(), 1, "{}", path.display());
            made += 1;
        }
    }
    assert!(made >= 40, "only {made} heads were accepted");
}
