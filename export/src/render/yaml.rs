//! YAML that parsers of version 1.1 and of 1.2 read the same way.
//!
//! In version 1.1 `no` is a boolean, `1_000` a number, `2001-01-80` a date and the address `2001:10:20:30:4:5:6:7` a number to the
//! base of 60, and Traefik refuses a name that is a number. So a text is in quotes unless it is a plain word.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter};

/// Words that YAML 1.1 does not read as text.
const YAML_1_1_KEYWORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// The text of a document. A space at the end of a line is left out.
#[derive(Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    space: bool,
}

/// Formats what a JSON serializer writes as blocks of YAML.
#[derive(Debug, Default)]
struct Blocks {
    /// The maps and lists that the next value is in, the innermost last.
    open: Vec<Block>,
    /// Whether a value follows the key of a map on the same line.
    is_after_key: bool,
    /// Whether the last line has to be ended.
    is_within_line: bool,
    /// The string that is being written, as far as it has come.
    string: String,
}

/// A map or list that is being written.
#[derive(Debug)]
struct Block {
    /// How far its entries are indented, in steps of two spaces.
    depth: usize,
    /// Whether its first entry begins a line, because its own line has a key already.
    is_below_key: bool,
    is_empty: bool,
}

/// The value as a document. The keys of a map are in the order in which they are serialised, and all are text.
pub(super) fn to_yaml(value: &impl Serialize) -> String {
    let mut text = Text::default();
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, Blocks::default());
    value.serialize(&mut serializer).expect("maps with text as keys, and nothing else that could fail");
    let mut text = String::from_utf8(text.bytes).expect("it is ASCII");
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.space) && !bytes.starts_with(b"\n") {
            self.bytes.push(b' ');
        }
        match bytes {
            b" " => self.space = true,
            _ => self.bytes.extend_from_slice(bytes),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Blocks {
    fn begin(&mut self, is_list: bool) {
        let is_below_key = std::mem::take(&mut self.is_after_key);
        // A list is indented as far as its key.
        let further = usize::from(!(is_list && is_below_key));
        let depth = self.open.last().map_or(0, |outer| outer.depth + further);
        self.open.push(Block { depth, is_below_key, is_empty: true });
    }

    fn end(&mut self, writer: &mut (impl Write + ?Sized), empty: &[u8]) -> io::Result<()> {
        match self.open.pop() {
            Some(block) if block.is_empty => writer.write_all(empty),
            _ => Ok(()),
        }
    }

    /// Begins an entry of the innermost map or list.
    fn begin_entry(&mut self, writer: &mut (impl Write + ?Sized), first: bool) -> io::Result<()> {
        let Some(block) = self.open.last_mut() else { return Ok(()) };
        block.is_empty = false;
        if first && block.is_below_key {
            writer.write_all(b"\n")?;
        }
        if !first || block.is_below_key {
            for _ in 0..block.depth {
                writer.write_all(b"  ")?;
            }
        }
        self.is_within_line = true;
        Ok(())
    }

    fn end_entry(&mut self, writer: &mut (impl Write + ?Sized)) -> io::Result<()> {
        self.is_after_key = false;
        if std::mem::take(&mut self.is_within_line) { writer.write_all(b"\n") } else { Ok(()) }
    }
}

impl Formatter for Blocks {
    fn begin_string<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.string.clear();
        Ok(())
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, _writer: &mut W, fragment: &str) -> io::Result<()> {
        self.string.push_str(fragment);
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, _writer: &mut W, escape: CharEscape) -> io::Result<()> {
        self.string.push(match escape {
            CharEscape::Quote => '"',
            CharEscape::ReverseSolidus => '\\',
            CharEscape::Solidus => '/',
            CharEscape::Backspace => '\u{8}',
            CharEscape::FormFeed => '\u{c}',
            CharEscape::LineFeed => '\n',
            CharEscape::CarriageReturn => '\r',
            CharEscape::Tab => '\t',
            CharEscape::AsciiControl(byte) => byte.into(),
        });
        Ok(())
    }

    fn end_string<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        quoted(writer, &self.string)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.begin(true);
        Ok(())
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"[]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.begin_entry(writer, first)?;
        writer.write_all(b"-")?;
        writer.write_all(b" ")
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end_entry(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, _writer: &mut W) -> io::Result<()> {
        self.begin(false);
        Ok(())
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"{}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.begin_entry(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.is_after_key = true;
        writer.write_all(b":")?;
        writer.write_all(b" ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end_entry(writer)
    }
}

/// Writes a text, in quotes unless it is a plain word.
fn quoted(writer: &mut (impl Write + ?Sized), string: &str) -> io::Result<()> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b"._/@-".contains(&b);
    let plain = string.starts_with(|c: char| c.is_ascii_alphabetic()) && string.bytes().all(inner);
    if plain && !YAML_1_1_KEYWORDS.contains(&string.to_ascii_lowercase().as_str()) {
        return writer.write_all(string.as_bytes());
    }
    writer.write_all(b"\"")?;
    let mut rest = string;
    while let Some(at) = rest.find(|c: char| !matches!(c, ' '..='~') || matches!(c, '"' | '\\')) {
        let (as_it_is, from) = rest.split_at(at);
        writer.write_all(as_it_is.as_bytes())?;
        let mut characters = from.chars();
        match characters.next() {
            Some(c @ ('"' | '\\')) => write!(writer, "\\{c}")?,
            // Everything that is not printable ASCII, line breaks included.
            Some(c) if u32::from(c) <= 0xffff => write!(writer, "\\u{:04x}", u32::from(c))?,
            Some(c) => write!(writer, "\\U{:08x}", u32::from(c))?,
            None => {}
        }
        rest = characters.as_str();
    }
    writer.write_all(rest.as_bytes())?;
    writer.write_all(b"\"")
}

#[cfg(test)]
mod tests {
    use proptest::{
        collection::{btree_map, vec},
        prelude::*,
    };
    use serde_json::{Value, json};

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
