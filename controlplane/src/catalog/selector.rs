//! Label selectors in the text form of kubectl and the API.

use std::{collections::BTreeMap, fmt};

use kube::core::{Expression, Selector as Expressions, SelectorExt as _};

/// Conditions on the labels of an object (`a=b, c!=d, e in (f, g), h notin (i), j, !k`); all conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    text: String,
    expressions: Expressions,
}

/// The text is not a label selector.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{requirement:?} is not a condition on labels: {why}; write a=b, a!=b, a in (b,c), a notin (b,c), a or !a, with commas between"
)]
pub struct InvalidSelector {
    /// The condition that cannot be read.
    requirement: String,
    /// What is wrong with it.
    why: &'static str,
}

// === impl Selector ===

impl Selector {
    /// Reads a selector. An empty one selects everything.
    ///
    /// # Errors
    /// [`InvalidSelector`] if a condition is malformed, or no label can have such a key or value.
    pub fn parse(text: &str) -> Result<Self, InvalidSelector> {
        let mut expressions = Expressions::default();
        if !text.trim().is_empty() {
            for requirement in requirements(text) {
                let requirement = requirement.trim();
                let failed = |why| InvalidSelector { requirement: requirement.to_owned(), why };
                expressions.extend([expression(requirement).map_err(failed)?]);
            }
        }
        Ok(Self { text: text.trim().to_owned(), expressions })
    }

    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.expressions.matches(labels)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Selector {}

/// Splits at the commas that are not in parentheses.
fn requirements(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.split(move |c| {
        match c {
            '(' => inside = true,
            ')' => inside = false,
            _ => {}
        }
        c == ',' && !inside
    })
}

fn expression(text: &str) -> Result<Expression, &'static str> {
    if let Some(key) = text.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(key_of(key)?));
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(Expression::NotEqual(key_of(key)?, value_of(value)?));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(Expression::Equal(key_of(key)?, value_of(value)?));
    }
    let Some((head, rest)) = text.split_once('(') else { return Ok(Expression::Exists(key_of(text)?)) };
    let values = rest.strip_suffix(')').ok_or("its parenthesis is not closed at its end")?;
    let values = values.split(',').map(value_of).collect::<Result<_, _>>()?;
    let (key, operator) = head.trim().rsplit_once(char::is_whitespace).ok_or("a list needs in or notin before it")?;
    match operator {
        "in" => Ok(Expression::In(key_of(key)?, values)),
        "notin" => Ok(Expression::NotIn(key_of(key)?, values)),
        _ => Err("a list needs in or notin before it"),
    }
}

/// A key: an optional DNS name and a slash, then a name.
fn key_of(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    let prefix_fits = prefix.is_none_or(|prefix| {
        let dns = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'.');
        !prefix.is_empty() && prefix.len() <= 253 && prefix.bytes().all(dns)
    });
    if name.is_empty() || !is_name(name) || !prefix_fits {
        return Err("no label can have this key");
    }
    Ok(text.to_owned())
}

fn value_of(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    if is_name(text) { Ok(text.to_owned()) } else { Err("no label can have this value") }
}

/// At most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at either end; or nothing.
fn is_name(text: &str) -> bool {
    let inside = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
    let end = |c: Option<&u8>| c.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63 && bytes.iter().copied().all(inside) && end(bytes.first()) && end(bytes.last())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_form_means_what_it_means_to_kubernetes() {
        let told = labels(&[("app", "cache"), ("tier", "edge"), ("example.org/x", "")]);
        for (text, expected) in [
            ("", true),
            ("  ", true),
            ("app=cache", true),
            ("app == cache", true),
            ("app=other", false),
            ("app!=cache", false),
            ("zone != a", true),
            ("app in (cache, shop)", true),
            ("app in (shop)", false),
            ("app notin (shop, x)", true),
            ("app notin (cache)", false),
            ("zone notin (a)", true),
            ("app", true),
            ("!app", false),
            ("! zone", true),
            ("zone", false),
            ("example.org/x=", true),
            ("example.org/x in ()", true),
            ("app=cache,tier in (edge,core),!zone", true),
            ("app=cache,tier in (core)", false),
        ] {
            let selector = Selector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(selector.matches(&told), expected, "{text}");
        }
    }

    #[test]
    fn an_invalid_selector_is_refused_with_the_faulty_part() {
        for text in
            ["a=b=c", "a,", ",", "=b", "a in b", "a in (b", "a (b)", "a like (b)", "-a", "a=b c", "Ex/a", "/a", "a/"]
        {
            let refusal = Selector::parse(text).expect_err(text).to_string();
            assert!(refusal.contains("is not a condition on labels"), "{refusal}");
        }
        let refusal = Selector::parse("a=b,c in (d").expect_err("not closed").to_string();
        assert!(refusal.starts_with("\"c in (d\""), "{refusal}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = Selector::parse(&text);
        }

        #[test]
        fn no_text_of_its_characters_panics(text in "[ab=!(), in]{0,40}") {
            let _ = Selector::parse(&text);
        }
    }
}
