//! Checks, without a manifest, whether the content from a store can be an exported file.
//!
//! Rule: `discover` writes text that is never empty, and its JSON and YAML can be parsed. An empty answer, a compressed file, a
//! login page or a truncated file is therefore recognised. At a URL a proxy may answer with a sentence, which is valid YAML: there
//! the content must also be a map or a list.

use serde::{Deserialize as _, de::IgnoredAny};

/// Checks a file. `names` are its names in the store and here, `media_type` is the store's, and `by_url` says whether it came from a
/// URL.
///
/// # Errors
/// A description of the actual content.
pub(super) fn check(names: &[&str], media_type: Option<&str>, by_url: bool, bytes: &[u8]) -> Result<(), String> {
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("it is empty".to_owned());
    }
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return Err("it is packed with gzip, and the store does not say so (Content-Encoding)".to_owned());
    }
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    let text = text.ok_or("it is not text")?;
    let media_type = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if matches!(media_type.as_str(), "text/html" | "application/xhtml+xml") || is_page(text) {
        return Err("it is a web page, for instance one to log in".to_owned());
    }
    let called = |endings: &[&str]| names.iter().any(|name| endings.iter().any(|ending| name.ends_with(ending)));
    if called(&[".json"]) || media_type == "application/json" || media_type.ends_with("+json") {
        json(text, by_url).map_err(|why| format!("it is not JSON: {why}"))?;
    }
    if called(&[".yaml", ".yml"]) || media_type.ends_with("yaml") {
        yaml(text, by_url).map_err(|why| format!("it is not YAML: {why}"))?;
    }
    Ok(())
}

fn is_page(text: &str) -> bool {
    let begins = |with: &str| {
        let head = text.trim_start_matches('\u{feff}').trim_start().get(..with.len());
        head.is_some_and(|head| head.eq_ignore_ascii_case(with))
    };
    begins("<!doctype html") || begins("<html")
}

fn json(text: &str, by_url: bool) -> Result<(), String> {
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
    let collection = text.trim_start().starts_with(['{', '[']);
    if collection || !by_url { Ok(()) } else { Err("neither an object nor an array".to_owned()) }
}

/// Checks that it is YAML and that one of its documents is not empty.
fn yaml(text: &str, by_url: bool) -> Result<(), String> {
    let mut any = false;
    for document in serde_yaml::Deserializer::from_str(text) {
        match serde_yaml::Value::deserialize(document).map_err(|error| error.to_string())? {
            serde_yaml::Value::Mapping(_) | serde_yaml::Value::Sequence(_) => any = true,
            serde_yaml::Value::Null => {}
            _ if !by_url => any = true,
            _ => return Err("neither a map nor a list".to_owned()),
        }
    }
    if any { Ok(()) } else { Err("there is nothing in it".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_distinguished_from_other_answers_of_stores() {
        let said = |name: &str, media_type: &str, bytes: &[u8]| {
            let media_type = Some(media_type).filter(|text| !text.is_empty());
            check(&[name], media_type, true, bytes).err().unwrap_or_default()
        };
        for (name, media_type, text) in [
            ("edge.yml", "", "{}\n"),
            ("edge.yml", "text/plain", "http:\n  services: {}\n"),
            ("edge.yml", "binary/octet-stream", "---\na: 1\n---\nb: 2\n"),
            ("edge.json", "application/json", "[]\n"),
            ("backends.cfg", "text/plain; charset=utf-8", "# Made by fanfare: changes here are lost.\n"),
            ("hosts", "", "192.0.2.1 web\n"),
        ] {
            assert_eq!(said(name, media_type, text.as_bytes()), "", "{name}: {text}");
        }
        assert_eq!(check(&["edge.yml"], None, false, b"whatever somebody has put there"), Ok(()));
        assert!(check(&["edge.yml"], None, false, b"a: [1").is_err() && check(&["x.json"], None, false, b"{").is_err());
        let page = b"\n<!DOCTYPE HTML><html><body>Log in</body></html>";
        for (name, media_type, bytes, why) in [
            ("edge.yml", "", &b""[..], "empty"),
            ("hosts", "", b" \n\n", "empty"),
            ("hosts", "", b"\x1f\x8b\x08\x00", "gzip"),
            ("hosts", "", b"\xff\xfe", "not text"),
            ("hosts", "", b"a\0b", "not text"),
            ("hosts", "", page, "web page"),
            ("hosts", "text/html; charset=utf-8", b"Log in", "web page"),
            ("edge.yml", "", b"Log in, please", "neither a map nor a list"),
            ("edge.yml", "", b"# nothing\n", "nothing in it"),
            ("edge.yaml", "", b"a: [1", "not YAML"),
            ("edge", "application/yaml", b"a: [1", "not YAML"),
            ("edge.json", "", b"{\"a\": 1", "not JSON"),
            ("edge", "application/json", b"\"ok\"", "neither an object nor an array"),
        ] {
            let told = said(name, media_type, bytes);
            assert!(told.contains(why), "{name} {media_type:?}: {told:?}");
        }
    }
}
