//! What a client says it has: the condition of `If-None-Match`.

/// The condition of the header (RFC 9110, 13.1.2).
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum IfNoneMatch {
    /// It is not there.
    #[default]
    Absent,
    /// `*`: there is anything.
    Any,
    /// One of these.
    Tags(Vec<String>),
}

impl IfNoneMatch {
    pub(super) fn new<'a>(values: impl Iterator<Item = &'a str>) -> Self {
        // Our tags have no comma in them, so those of others may be cut anywhere.
        let tags: Vec<String> = values.flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).collect();
        match tags.as_slice() {
            [] => Self::Absent,
            [any] if any == "*" => Self::Any,
            _ => Self::Tags(tags),
        }
    }

    /// Whether the client has what this tag stands for. Weak comparison, as this header wants it.
    pub(super) fn matches(&self, etag: &str) -> bool {
        match self {
            Self::Absent => false,
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == etag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_names_one_tag_or_several_or_any() {
        let condition = |values: &[&str]| IfNoneMatch::new(values.iter().copied());
        assert!(!condition(&[]).matches("\"a\""));
        assert!(condition(&["*"]).matches("\"a\""));
        assert!(condition(&["\"b\", W/\"a\""]).matches("\"a\""));
        assert!(condition(&["\"b\"", "\"a\""]).matches("\"a\""));
        assert!(!condition(&["\"b\"", "a", ""]).matches("\"a\""));
    }
}
