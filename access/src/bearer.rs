//! The token in a request: `Authorization: Bearer <token>` (RFC 6750).

/// The token of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presented<'a> {
    /// No bearer token: no `Authorization`, or one of another scheme.
    Nothing,
    /// A token.
    Token(&'a str),
    /// Something that is no single token: several fields, or characters that no token has.
    Unusable,
}

/// The longest token, in bytes. Those of service accounts have about a kilobyte.
pub const MAX_BYTES: usize = 16 * 1024;

// === impl Presented ===

impl<'a> Presented<'a> {
    /// Reads the values of a request's `Authorization` fields. Several are unusable, whatever their schemes, because another reader
    /// might choose another one.
    pub fn of(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        let Some(value) = values.next() else { return Self::Nothing };
        if values.next().is_some() {
            return Self::Unusable;
        }
        let scheme = value.iter().position(|b| *b == b' ').unwrap_or(value.len());
        let (scheme, rest) = value.split_at(scheme);
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Self::Nothing;
        }
        let token = std::str::from_utf8(rest).map(|rest| rest.trim_matches(' '));
        token.ok().filter(|token| is_token(token)).map_or(Self::Unusable, Self::Token)
    }
}

/// Whether the text can stand behind `Bearer` (RFC 6750 section 2.1, `b64token`).
#[must_use]
pub fn is_token(text: &str) -> bool {
    let token = text.trim_end_matches('=');
    !token.is_empty()
        && text.len() <= MAX_BYTES
        && token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~+/".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(values: &[&'a str]) -> Presented<'a> {
        Presented::of(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn one_field_with_the_scheme_in_any_case_shows_its_token() {
        for value in ["Bearer abc", "bearer abc", "BEARER abc", "bEaReR   abc "] {
            assert_eq!(of(&[value]), Presented::Token("abc"), "{value:?}");
        }
        assert_eq!(of(&["Bearer a.b-c_d~e+f/g=="]), Presented::Token("a.b-c_d~e+f/g=="));
    }

    #[test]
    fn another_scheme_is_none_of_ours() {
        for values in [&[][..], &["Basic dTpw"], &["Bearers abc"], &["Digest a=b"], &[""], &["bearer=abc"]] {
            assert_eq!(of(values), Presented::Nothing, "{values:?}");
        }
    }

    #[test]
    fn several_fields_and_invalid_characters_are_unusable() {
        for values in [
            &["Bearer abc", "Bearer abc"][..],
            &["Basic dTpw", "Bearer abc"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer a b"],
            &["Bearer a,b"],
            &["Bearer ==="],
            &["Bearer a=b"],
            &["Bearer \u{e9}"],
            &["Bearer abc, Bearer abc"],
        ] {
            assert_eq!(of(values), Presented::Unusable, "{values:?}");
        }
        assert_eq!(Presented::of([&b"Bearer \xff"[..]].into_iter()), Presented::Unusable);
        let long = format!("Bearer {}", "a".repeat(MAX_BYTES + 1));
        assert_eq!(of(&[&long]), Presented::Unusable);
    }
}
