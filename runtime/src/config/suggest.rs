//! "Did you mean": the known key nearest to a misspelt one.

/// Names longer than this are not compared: the cost grows with the square.
const MAX_COMPARED: usize = 64;

/// The known key that was probably meant: equal but for case, `-` and `_`, or few edits away.
#[must_use]
pub fn nearest<'a>(key: &str, known: &'a [String]) -> Option<&'a str> {
    let wanted = normalised(key);
    let length = wanted.chars().count();
    if length > MAX_COMPARED {
        return None;
    }
    let allowed = (length / 3).clamp(1, 3);
    known
        .iter()
        .filter(|candidate| candidate.len() <= MAX_COMPARED)
        .map(|candidate| (strsim::osa_distance(&wanted, &normalised(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate.as_str())
}

/// The known keys without repetition, in order.
pub(super) fn sorted(known: &[String]) -> Vec<&str> {
    let mut names: Vec<&str> = known.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// A key as part of a path: quoted where it would make the path ambiguous, cut where it is absurdly long.
#[must_use]
pub fn quoted(key: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/');
    match key {
        "" => "\"\"".to_owned(),
        key if key.chars().count() > MAX_COMPARED => {
            let start: String = key.chars().take(MAX_COMPARED).collect();
            format!("{:?}", format!("{start}\u{2026}"))
        }
        key if key.chars().all(plain) => key.to_owned(),
        key => format!("{key:?}"),
    }
}

/// In lower case, with `_` for `-`; cut where it is too long to be compared.
fn normalised(key: &str) -> String {
    key.chars().take(MAX_COMPARED + 1).map(|c| if c == '-' { '_' } else { c.to_ascii_lowercase() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_key_that_was_meant() {
        let known = ["listen", "timeout", "lag_timeout", "require", "to"].map(str::to_owned);
        let table = [
            ("timeuot", Some("timeout")),
            ("Listen", Some("listen")),
            ("lag-timeout", Some("lag_timeout")),
            ("requires", Some("require")),
            ("lsten", Some("listen")),
            ("x", None),
            ("methods", None),
        ];
        for (key, meant) in table {
            assert_eq!(nearest(key, &known), meant, "{key}");
        }
        assert_eq!(nearest(&"a".repeat(10_000), &known), None);
    }

    #[test]
    fn quotes_keys_that_would_make_a_path_ambiguous() {
        assert_eq!(quoted("lag-timeout"), "lag-timeout");
        assert_eq!(quoted("a.b"), "\"a.b\"");
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
        assert_eq!(quoted(""), "\"\"");
        assert!(quoted(&"k".repeat(1000)).chars().count() < 80);
    }
}
