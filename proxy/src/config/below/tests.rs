//! No path is let through that any server of a large family reads as one outside the prefix: checked against a plain
//! model of such servers.

use proptest::prelude::*;

use super::*;

fn below(prefix: &str, path: &str) -> bool {
    let slash = prefix.rfind('/').unwrap() + 1;
    assert!(path.starts_with(prefix), "{path} is under {prefix} as it stands");
    stays_below(&path.as_bytes()[slash..], slash < prefix.len())
}

/// How a server reads a path.
#[derive(Clone, Copy, Debug)]
struct Reader {
    /// How often it decodes.
    decodes: usize,
    /// Whether it does so before it splits at slashes; else each segment for itself.
    decodes_first: bool,
    backslashes: bool,
    merges: bool,
    parameters: Parameters,
    /// Whether a NUL ends the path.
    ends_at_nul: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Parameters {
    Kept,
    CutBeforeDecoding,
    CutAfterDecoding,
}

impl Reader {
    fn all() -> impl Iterator<Item = Self> {
        let parameters = [Parameters::Kept, Parameters::CutBeforeDecoding, Parameters::CutAfterDecoding];
        (0..4 * 16 * 3).map(move |n| Self {
            decodes: n % 4,
            decodes_first: n / 4 % 2 == 0,
            backslashes: n / 8 % 2 == 0,
            merges: n / 16 % 2 == 0,
            ends_at_nul: n / 32 % 2 == 0,
            parameters: parameters[n / 64],
        })
    }

    /// The path as this server sees it.
    fn read(self, path: &str) -> String {
        let cut = |segment: &str| segment.split(';').next().unwrap_or_default().to_owned();
        let mut path = path.to_owned();
        if self.parameters == Parameters::CutBeforeDecoding {
            path = path.split('/').map(cut).collect::<Vec<_>>().join("/");
        }
        if self.decodes_first {
            (0..self.decodes).for_each(|_| path = decode(&path));
        }
        if self.ends_at_nul {
            path = path.split('\0').next().unwrap_or_default().to_owned();
        }
        if self.backslashes {
            path = path.replace('\\', "/");
        }
        let mut kept: Vec<String> = Vec::new();
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        for (index, segment) in segments.iter().enumerate() {
            let mut segment = (*segment).to_owned();
            if !self.decodes_first {
                (0..self.decodes).for_each(|_| segment = decode(&segment));
            }
            if self.parameters == Parameters::CutAfterDecoding {
                segment = cut(&segment);
            }
            let last = index + 1 == segments.len();
            match segment.as_str() {
                "." | ".." => {
                    if segment == ".." {
                        kept.pop();
                    }
                    if last {
                        kept.push(String::new());
                    }
                }
                "" if self.merges && !last => {}
                _ => kept.push(segment),
            }
        }
        format!("/{}", kept.join("/"))
    }
}

/// Decodes every escape once, from left to right.
fn decode(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let digits = rest.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits {
            Some(digits) => {
                out.push(char::from(u8::from_str_radix(digits, 16).unwrap()));
                rest = &rest[at + 3..];
            }
            None => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out + rest
}

#[test]
fn paths_that_some_server_reads_as_others_do_not_stay_below() {
    let out = [
        "/cache/..",
        "/cache/../admin",
        "/cache/%2e%2e/admin",
        "/cache/.%2E/admin",
        "/cache/..%2fadmin",
        "/cache/..%2Fadmin",
        "/cache/..%5cadmin",
        "/cache/..\\admin",
        "/cache/%252e%252e/admin",
        "/cache/%25252e./admin",
        "/cache/..%252fadmin",
        "/cache/..;/admin",
        "/cache/..;a=b/admin",
        "/cache/..%3Ba/admin",
        "/cache/a/../../admin",
        "/cache/a%2F../../admin",
        "/cache/a%2Fb/../../admin",
        "/cache//../admin",
        "/cache/./../admin",
        "/cache/%2F../admin",
        "/cache/;x/../admin",
        "/cache/..%00/admin",
        "/cache/.%0a./admin",
        "/cache/..%20/admin",
        "/cache/%c0%ae%c0%ae/admin",
        "/cache/..%c0%afadmin",
        "/cache/..%e0%80%afadmin",
        "/cache/%u002e%u002e/admin",
        "/cache/%%32%65./admin",
        "/cache/..%3fx",
        "/cache/..%23x",
        "/cache/a/..;%2Fb/../..",
    ];
    for path in out {
        assert!(!below("/cache/", path), "{path}");
    }
    for path in ["/cache/../x", "/cachex/..", "/cach%2f..%2fadmin", "/cache%2f../admin", "/cach;x/../y"] {
        assert!(!below("/cach", path), "{path}");
    }
    assert!(!below("/.", "/..") && !below("/.", "/.") && !below("/.", "/./x") && below("/.", "/.well-known/x"));
}

#[test]
fn paths_that_stay_below_whatever_a_server_does_pass() {
    let below_cache = [
        "/cache/",
        "/cache/a..b",
        "/cache/..a",
        "/cache/a..",
        "/cache/...",
        "/cache/a/../b",
        "/cache/a/b/../../c",
        "/cache/.",
        "/cache/./a",
        "/cache/a/..",
        "/cache/a%2Fb",
        "/cache/a%2F..%2Fb",
        "/cache/a/%2e%2e/b",
        "/cache//a",
        "/cache/a;b=../c",
        "/cache/%20",
        "/cache/%",
        "/cache/%zz",
        "/cache/%e4%bd%a0",
        "/cache/a%2eb",
        "/cache/^a|b",
        "/cache/a%2E%2Eb",
        "/cache/.hidden",
    ];
    for path in below_cache {
        assert!(below("/cache/", path), "{path}");
    }
    assert!(below("/metrics/job/", "/metrics/job/a%2Fb") && below("/cach", "/cache/a/../b") && below("/cach", "/cach"));
}

#[test]
fn dot_segments_are_seen_in_any_encoding() {
    for path in ["/a/../b", "/.", "/a/%2e%2e/b", "/a/..;x", "/a%2f.%2fb", "/..%5c"] {
        assert!(has_dot_segment(path.as_bytes()), "{path}");
    }
    for path in ["/", "//", "/a/b", "/.well-known/", "/a..b/", "/...", "/a;b=./"] {
        assert!(!has_dot_segment(path.as_bytes()), "{path}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_path_is_let_through_that_a_server_reads_as_one_outside(
        prefix in prop::sample::select(vec!["/cache/", "/cach", "/a/b/", "/a/b%2Fc/", "/.w", "/a/x"]),
        rest in prop::collection::vec(prop::sample::select(vec![
            "/", "/", "/", "..", "..", ".", "a", "cache", "%2e", "%2E%2e", "%252e", "%2f", "%5C", "\\", ";", ";a=b",
            "%3b", "%00", "%25", "%", "2", "e", "...", "%252f", "b",
        ]), 0..10),
    ) {
        let path = format!("{prefix}{}", rest.concat());
        let let_through = below(prefix, &path);
        for reader in Reader::all() {
            // The same server reads the rule's own prefix the same way.
            let own = if prefix.contains('%') { reader.read(prefix) } else { prefix.to_owned() };
            let read = reader.read(&path);
            let inside = read.starts_with(&own) || format!("{read}/") == own;
            prop_assert!(inside || !let_through, "{path} is {read} for {reader:?}, and outside {own}");
        }
    }

    #[test]
    fn paths_without_two_dots_in_a_row_pass(rest in "[a-z0-9/%_~-]{0,3}(/[a-z]{1,3}(\\.[a-z])?(%2[Ff])?){0,5}") {
        let path = format!("/cache/{rest}");
        prop_assert!(below("/cache/", &path), "{}", path);
    }
}
