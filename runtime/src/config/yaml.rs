//! Parses YAML strictly: duplicate keys, keys that are not text, tags and alias bombs are refused, with their position.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, Visitor};
use serde_yaml::{Mapping, Value};

use super::Problem;

/// The largest text that is read: 4 MiB.
pub const MAX_TEXT: usize = 4 << 20;

/// The most values a file may hold once its aliases are followed: a million. More is taken for an alias bomb.
pub const MAX_NODES: usize = 1_000_000;

/// The most brackets that may be open in a text. The parser refuses what is nested more than 128 deep, but its time for that goes with the
/// square of their number, and text within strings is counted as well here.
const MAX_OPEN: usize = 1_000;

/// Parses a YAML (or JSON) text of one document. An empty text is `null`; aliases and merge keys (`<<`) are resolved.
///
/// # Errors
/// The first thing that is not YAML, or a duplicate key, a key that is not text, a tag; the path is `line L, column C`.
pub fn parse(text: &str) -> Result<Value, Problem> {
    if text.len() > MAX_TEXT {
        return Err(Problem {
            path: String::new(),
            message: format!("the file has {} bytes, more than the {MAX_TEXT} allowed", text.len()),
        });
    }
    if let Some(line) = too_deep(text) {
        return Err(Problem {
            path: format!("line {line}"),
            message: format!("more than {MAX_OPEN} brackets ([ or {{) are open, one within the other"),
        });
    }
    let budget = Cell::new(MAX_NODES);
    let mut value = if text.trim().is_empty() {
        Value::Null
    } else {
        Strict(&budget).deserialize(serde_yaml::Deserializer::from_str(text)).map_err(problem)?
    };
    value.apply_merge().map_err(problem)?;
    Ok(value)
}

/// The line on which too many brackets are open.
fn too_deep(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    let deep = text.bytes().position(|byte| {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open > MAX_OPEN
    })?;
    Some(text.as_bytes()[..deep].iter().filter(|byte| **byte == b'\n').count() + 1)
}

/// What the library says of its limits, and what that means for whoever wrote the file.
const IN_OTHER_WORDS: [(&str, &str); 3] = [
    ("repetition limit exceeded", "aliases (*name) repeat too much of the file: write the values out"),
    ("recursion limit exceeded", "values stand too deep within each other, or an alias (*name) within what it repeats"),
    ("deserializing from YAML containing more than one document", "there is more than one document (---): keep one"),
];

/// The library's error with its location moved from the end of the message to the path.
fn problem(error: serde_yaml::Error) -> Problem {
    let text = error.to_string();
    let known = IN_OTHER_WORDS.iter().find(|(begin, _)| text.starts_with(begin));
    let message = known.map_or_else(|| text.clone(), |(_, meant)| (*meant).to_owned());
    let Some(location) = error.location() else {
        return Problem { path: String::new(), message };
    };
    let (line, column) = (location.line(), location.column());
    let suffix = format!(" at line {line} column {column}");
    Problem {
        path: format!("line {line}, column {column}"),
        message: message.strip_suffix(&suffix).unwrap_or(&message).to_owned(),
    }
}

/// Reads any value within the budget of nodes.
#[derive(Clone, Copy)]
struct Strict<'b>(&'b Cell<usize>);

/// Reads one key of a mapping. The check for duplicates sits here, because an error raised while the key is read carries the key's own position.
struct UniqueKey<'k>(&'k mut HashSet<String>);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.0.get();
        if left == 0 {
            return Err(de::Error::custom(format_args!(
                "the file holds more than {MAX_NODES} values, its aliases followed"
            )));
        }
        self.0.set(left - 1);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Sequence(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut seen = HashSet::new();
        let mut map = Mapping::new();
        while let Some(key) = entries.next_key_seed(UniqueKey(&mut seen))? {
            let value = entries.next_value_seed(self)?;
            map.insert(Value::String(key), value);
        }
        Ok(Value::Mapping(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(de::Error::custom("a tag such as !name is not supported, remove it"))
    }
}

impl<'de> DeserializeSeed<'de> for UniqueKey<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for UniqueKey<'_> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text as key (put others in quotes)")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<String, E> {
        if self.0.insert(key.to_owned()) {
            Ok(key.to_owned())
        } else {
            Err(E::custom(format_args!("duplicate key {key:?}, keep one of them")))
        }
    }
}
