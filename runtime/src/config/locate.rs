//! On which line of a file the value at a path stands, so that a problem can be found as well as named.

use std::cell::Cell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::suggest;

/// How much is read at most to find all lines of a file. Each one takes a reading of its own.
const BUDGET: usize = 256 << 20;

/// The text of a file, to look up lines in.
#[derive(Debug)]
pub struct Lines<'t> {
    text: &'t str,
    budget: Cell<usize>,
}

/// Goes down a path, and fails where it ends: errors of the library have a position.
#[derive(Clone, Copy)]
struct Seek<'p>(&'p str);

/// The next key of a mapping.
struct NextKey<'p>(&'p str);

/// Fails wherever it is.
struct Here;

/// What the error says that is none.
const FOUND: &str = "this is the place";

// === impl Lines ===

impl<'t> Lines<'t> {
    /// Looks up lines of this text.
    #[must_use]
    pub fn of(text: &'t str) -> Self {
        Self { text, budget: Cell::new(BUDGET) }
    }

    /// The line, from 1 on, of the value at a path as [`Problem`](super::Problem) has it, or of the innermost section on the way to it that
    /// is there. `None` where the path is empty or nothing of it is there.
    #[must_use]
    pub fn line(&self, path: &str) -> Option<usize> {
        if let Some(line) = path.strip_prefix("line ") {
            return line.split(',').next()?.parse().ok();
        }
        prefixes(path).find_map(|path| self.exactly(path))
    }

    fn exactly(&self, path: &str) -> Option<usize> {
        self.budget.set(self.budget.get().checked_sub(self.text.len())?);
        let error = Seek(path).deserialize(serde_yaml::Deserializer::from_str(self.text)).err()?;
        error.to_string().contains(FOUND).then(|| Some(error.location()?.line()))?
    }
}

/// A path, and what is before each of its steps, the longest first.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    let mut ends = vec![path.len()];
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in path.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = quoted,
            '"' => quoted = !quoted,
            '.' | '[' if !quoted => ends.push(at),
            _ => {}
        }
    }
    ends.sort_unstable();
    ends.into_iter().rev().map(|end| &path[..end]).filter(|path| !path.is_empty())
}

/// What is left of a path behind a step, if it begins with this step.
fn behind<'p>(path: &'p str, step: &str) -> Option<&'p str> {
    let rest = path.strip_prefix(step)?;
    match rest.as_bytes().first() {
        None | Some(b'[') => Some(rest),
        Some(b'.') => Some(&rest[1..]),
        Some(_) => None,
    }
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0.is_empty() { deserializer.deserialize_any(Here) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping or a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0.. {
            let more = match behind(self.0, &format!("[{index}]")) {
                Some(rest) => items.next_element_seed(Seek(rest))?.is_some(),
                None => items.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(rest) = entries.next_key_seed(NextKey(self.0))? {
            match rest {
                Some(rest) => entries.next_value_seed(Seek(rest))?,
                None => drop(entries.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

impl<'de, 'p> DeserializeSeed<'de> for NextKey<'p> {
    type Value = Option<&'p str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'p> Visitor<'_> for NextKey<'p> {
    type Value = Option<&'p str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text as key")
    }

    fn visit_str<E: de::Error>(self, key: &str) -> Result<Self::Value, E> {
        match behind(self.0, &suggest::quoted(key)) {
            Some("") => Err(E::custom(FOUND)),
            rest => Ok(rest),
        }
    }
}

impl Visitor<'_> for Here {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(FOUND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "
admin:
  listen: here
broadcast:
  - listen: ':80'
    routes:
      - {timeout: 3s,
         require: any}
      - to: {endpoints: [a,
          b]}
base: &base
  x: 1
'a.b':
  c: 2
other: {<<: *base, y: 3}
again: *base
";

    #[test]
    fn a_path_leads_to_the_line_of_its_key_or_element() {
        for (path, line) in [
            ("admin", Some(2)),
            ("admin.listen", Some(3)),
            ("broadcast[0]", Some(5)),
            ("broadcast[0].routes[0].require", Some(8)),
            ("broadcast[0].routes[1].to.endpoints[1]", Some(10)),
            ("\"a.b\".c", Some(14)),
            ("other.y", Some(15)),
            ("again.x", Some(12)),
            ("line 7, column 3", Some(7)),
        ] {
            assert_eq!(Lines::of(TEXT).line(path), line, "{path}");
        }
    }

    #[test]
    fn a_missing_key_has_the_line_of_its_section() {
        for (path, line) in [
            ("admin.tls.cert", Some(2)),
            ("broadcast[0].routes[0].to", Some(7)),
            ("broadcast[7].listen", Some(4)),
            ("nowhere.at.all", None),
            ("", None),
        ] {
            assert_eq!(Lines::of(TEXT).line(path), line, "{path}");
        }
        assert_eq!(Lines::of("").line("a"), None);
        assert_eq!(Lines::of("[").line("a"), None);
    }
}
