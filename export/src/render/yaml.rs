//! YAML that parsers of version 1.1 and of 1.2 read the same way.
//!
//! In version 1.1 `no` is a boolean, `1_000` a number, `2001-01-80` a date and the address `2001:10:20:30:4:5:6:7` a number to the
//! base of 60, and Traefik refuses a name that is a number. So a text is in quotes unless it is a plain word.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::Value;

/// Words that YAML 1.1 does not read as text.
const YAML_1_1_KEYWORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// The value as a document, the keys of its maps in alphabetical order.
pub(super) fn to_yaml(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).expect("maps with text as keys, and nothing else that could fail");
    let mut text = String::new();
    match &value {
        Value::Object(_) | Value::Array(_) if !is_empty(&value) => block(&mut text, &value, 0),
        flat => scalar(&mut text, flat),
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Appends the lines of a map or list that is not empty, indented by `depth`. The first line has already begun.
fn block(text: &mut String, value: &Value, depth: usize) {
    let mut first = true;
    let mut begin = |text: &mut String| {
        if !std::mem::take(&mut first) {
            text.extend(std::iter::repeat_n(' ', depth));
        }
    };
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                begin(text);
                quoted(text, key);
                text.push(':');
                if is_empty(value) || !(value.is_object() || value.is_array()) {
                    text.push(' ');
                    scalar(text, value);
                    text.push('\n');
                } else {
                    // A list is indented as far as its key.
                    let depth = if value.is_array() { depth } else { depth + 2 };
                    text.push('\n');
                    text.extend(std::iter::repeat_n(' ', depth));
                    block(text, value, depth);
                }
            }
        }
        Value::Array(list) => {
            for value in list {
                begin(text);
                text.push_str("- ");
                if is_empty(value) || !(value.is_object() || value.is_array()) {
                    scalar(text, value);
                    text.push('\n');
                } else {
                    block(text, value, depth + 2);
                }
            }
        }
        other => scalar(text, other),
    }
}

/// Appends a value that fits on one line.
fn scalar(text: &mut String, value: &Value) {
    match value {
        Value::String(string) => quoted(text, string),
        // Numbers, booleans, null, `{}` and `[]` are the same in JSON.
        other => text.push_str(&other.to_string()),
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(serde_json::Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// Appends a text, in quotes unless it is a plain word.
fn quoted(text: &mut String, string: &str) {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"._/@-".contains(&b);
    let plain = string.starts_with(|c: char| c.is_ascii_alphabetic()) && string.bytes().all(inner);
    if plain && !YAML_1_1_KEYWORDS.contains(&string.to_ascii_lowercase().as_str()) {
        text.push_str(string);
        return;
    }
    text.push('"');
    for c in string.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            ' '..='~' => text.push(c),
            // Everything that is not printable ASCII, line breaks included.
            c if u32::from(c) <= 0xffff => write!(text, "\\u{:04x}", u32::from(c)).expect("a String takes everything"),
            c => write!(text, "\\U{:08x}", u32::from(c)).expect("a String takes everything"),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::{btree_map, vec},
        prelude::*,
    };
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_and_lists_are_blocks_and_text_in_doubt_is_in_quotes() {
        let value = json!({
            "b": [{"name": "web-80", "of": ["192.0.2.1", "http://[::1]:80"]}, {}, [], [["x"], 1]],
            "a": {"1_000": {"no": null}, "on": {}, "é\n\u{1f600}": true},
        });
        let wanted = "a:\n  \"1_000\":\n    \"no\": null\n  \"on\": {}\n  \"\\u00e9\\u000a\\U0001f600\": true\n\
                      b:\n- name: web-80\n  of:\n  - \"192.0.2.1\"\n  - \"http://[::1]:80\"\n- {}\n- []\n- - - x\n  - 1\n";
        assert_eq!(to_yaml(&value), wanted);
        assert_eq!(serde_yaml::from_str::<Value>(wanted).unwrap(), value);
        assert_eq!((to_yaml(&json!({})).as_str(), to_yaml(&json!([])).as_str()), ("{}\n", "[]\n"));
    }

    #[test]
    fn strings_that_yaml_1_1_reads_as_another_type_are_quoted() {
        let doubtful = [
            "1:2:3:4:5:6:7:8",
            "12:30",
            "1e3",
            "0x1f",
            "0o7",
            "010",
            "no",
            "Yes",
            "ON",
            "off",
            "y",
            "N",
            "null",
            "~",
            "1_000",
            "2001-01-80",
            ".inf",
            "=",
            "<<",
            "",
            " a",
            "a ",
            "a: b",
            "a #b",
            "- a",
            "&a",
            "*a",
            "!a",
            "%a",
            "@a",
            "`a",
            "{a}",
        ];
        for text in doubtful {
            assert!(to_yaml(&text).starts_with('"'), "{text:?}");
            assert_eq!(serde_yaml::from_str::<String>(&to_yaml(&text)).unwrap(), text);
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf =
            prop_oneof![any::<String>().prop_map(Value::from), any::<i32>().prop_map(Value::from), Just(Value::Null)];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..5).prop_map(Value::from),
                btree_map(any::<String>(), inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn written_values_read_back(value in values()) {
            let text = to_yaml(&value);
            prop_assert!(text.is_ascii() && text.ends_with('\n'));
            prop_assert_eq!(serde_yaml::from_str::<Value>(&text).unwrap(), value);
        }
    }
}
