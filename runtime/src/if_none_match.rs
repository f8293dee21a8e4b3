//! The request field `If-None-Match`: which versions a client has already (RFC 9110, section 13.1.2).

use axum::http::{HeaderMap, header::IF_NONE_MATCH};

/// The condition that the field states.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum IfNoneMatch {
    /// There is no such field, so there is no condition.
    #[default]
    Absent,
    /// `*`: the client has some version.
    Any,
    /// The entity tags of the versions that the client has.
    Tags(Vec<String>),
}

impl IfNoneMatch {
    /// The condition of a request. Several fields are one list.
    #[must_use]
    pub fn of(fields: &HeaderMap) -> Self {
        fields.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).collect()
    }

    /// Whether the client has the version with this tag, by weak comparison, as the RFC demands for this field.
    #[must_use]
    pub fn matches(&self, etag: &str) -> bool {
        match self {
            Self::Absent => false,
            Self::Any => true,
            Self::Tags(tags) => tags.iter().any(|tag| tag.strip_prefix("W/").unwrap_or(tag) == etag),
        }
    }
}

/// From the values of the fields.
impl<'a> FromIterator<&'a str> for IfNoneMatch {
    fn from_iter<I: IntoIterator<Item = &'a str>>(values: I) -> Self {
        let values = values.into_iter();
        // No tag of ours has a comma in it, so tags of others may be cut anywhere.
        let tags: Vec<String> = values.flat_map(|value| value.split(',')).map(|tag| tag.trim().to_owned()).collect();
        match tags.as_slice() {
            [] => Self::Absent,
            [any] if any == "*" => Self::Any,
            _ => Self::Tags(tags),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn condition(values: &[&'static str]) -> IfNoneMatch {
        let fields = values.iter().map(|value| (IF_NONE_MATCH, HeaderValue::from_static(value)));
        IfNoneMatch::of(&fields.collect())
    }

    #[test]
    fn a_condition_names_one_tag_or_several_or_any() {
        assert!(!condition(&[]).matches("\"a\""));
        assert!(condition(&["*"]).matches("\"a\""));
        assert!(condition(&["\"b\", W/\"a\""]).matches("\"a\""));
        assert!(!condition(&["\"b\"", "a", ""]).matches("\"a\""));
    }

    #[test]
    fn several_fields_are_one_list() {
        assert!(condition(&["\"b\"", "\"a\""]).matches("\"a\""));
    }

    #[test]
    fn invalid_tags_match_nothing() {
        for value in ["\"a b\"", "\"a\tb\"", "W/", "\"", ",,", "", "\"\"\"", "*, \"b\""] {
            assert!(!condition(&[value]).matches("\"a\""), "{value}");
        }
    }
}
