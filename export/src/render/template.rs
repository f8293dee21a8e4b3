//! The user's own template, in the language of Jinja.
//!
//! It gets `backends`, with the fields of the format `json`. `tojson` makes a quoted string of any value. Nothing is escaped
//! automatically, because only the template knows which format it writes.

use std::{fmt, sync::Arc};

use minijinja::{Environment, UndefinedBehavior, context, syntax::SyntaxConfig, value::Serde};

use super::plain::described;
use crate::backend::Backend;

/// The most instructions of one run: enough for hundreds of thousands of endpoints, and a bound for endless loops.
const MAX_INSTRUCTIONS: u64 = 20_000_000;
/// The most bytes that one run may write.
const MAX_OUTPUT_BYTES: usize = 256 << 20;
/// The template's name in errors.
const NAME: &str = "template";

/// A checked template. Two are equal if their texts are.
#[derive(Clone)]
pub struct Template {
    text: Arc<str>,
    environment: Arc<Environment<'static>>,
}

/// An error of a template, with its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}{why}")]
pub struct RenderError {
    place: String,
    why: String,
}

/// Collects output, up to a limit.
struct Bounded {
    bytes: Vec<u8>,
}

impl Template {
    /// Checks a template.
    ///
    /// # Errors
    /// [`RenderError`] where its syntax is wrong, with the line.
    pub fn new(text: &str) -> Result<Self, RenderError> {
        let mut environment = Environment::new();
        // A misspelt field is an error, and not an empty text in a load balancer's configuration.
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // A line that has only a block on it produces no output.
        let lines = SyntaxConfig::builder().keep_trailing_newline(true).trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(lines.map_err(|error| RenderError::of(&error))?);
        environment.set_fuel(Some(MAX_INSTRUCTIONS));
        environment.add_template_owned(NAME, text.to_owned()).map_err(|error| RenderError::of(&error))?;
        Ok(Self { text: text.into(), environment: Arc::new(environment) })
    }

    /// The template's output for these backends.
    pub(super) fn render(&self, backends: &[Backend]) -> Result<String, RenderError> {
        let template = self.environment.get_template(NAME).map_err(|error| RenderError::of(&error))?;
        let mut out = Bounded { bytes: Vec::new() };
        let known = context! { backends => Serde(described(backends)) };
        template.render_captured_to(known, &mut out).map_err(|error| RenderError::of(&error))?;
        if out.bytes.is_empty() {
            // An empty file is refused, because it could be one that was cut off.
            let why = "it writes nothing: let it write at least a comment".to_owned();
            return Err(RenderError { place: String::new(), why });
        }
        Ok(String::from_utf8(out.bytes).expect("a template writes text"))
    }
}

impl RenderError {
    fn of(error: &minijinja::Error) -> Self {
        let place = error.line().map_or_else(String::new, |line| format!("line {line}: "));
        let detail = error.detail().map_or_else(String::new, |detail| format!(": {detail}"));
        let cause = std::error::Error::source(error).map_or_else(String::new, |cause| format!(": {cause}"));
        Self { place, why: format!("{}{detail}{cause}", error.kind()) }
    }
}

impl std::io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > MAX_OUTPUT_BYTES {
            return Err(std::io::Error::other(format!("its output has more than {} MiB", MAX_OUTPUT_BYTES >> 20)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl PartialEq for Template {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Template {}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Template").field(&self.text).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{
        Model, Names,
        fixture::{catalog, service},
    };

    fn made(text: &str) -> Result<String, String> {
        let web = service("shop/web").label("team", "edge").http(&["192.0.2.1:8080 pod=web-0", "[2001:db8::1]:8080"]);
        let backends = Model::default().backends(&catalog([web]), &mut Names::default());
        let template = Template::new(text).map_err(|error| error.to_string())?;
        template.render(&backends).map_err(|error| error.to_string())
    }

    #[test]
    fn a_template_sees_what_the_format_json_has() {
        let text = "{% for b in backends %}\n{{ b.name }} {{ b.labels.team }} {{ b.protocol }} {{ b.service_port }}\n{% \
                    for e in b.endpoints %}\n{{ e.url }} {{ e.pod | default('-', true) }}\n{% endfor %}\n{% endfor %}\n";
        assert_eq!(
            made(text).unwrap(),
            "web-8080 edge http 80\nhttp://192.0.2.1:8080 web-0\nhttp://[2001:db8::1]:8080 -\n"
        );
        assert_eq!(made("{{ '<&\"' }}").unwrap(), "<&\"", "nothing is escaped by itself");
        assert_eq!(made("{{ '\"' | tojson }}").unwrap(), r#""\"""#);
    }

    #[test]
    fn errors_name_the_line() {
        let syntax = made("a\n{% if %}\n{% endif %}").unwrap_err();
        assert!(syntax.starts_with("line 2: ") && syntax.contains("syntax error"), "{syntax}");
        let misspelt = made("a\nb\n{{ backends[0].nmae }}").unwrap_err();
        assert!(misspelt.starts_with("line 3: ") && misspelt.contains("undefined"), "{misspelt}");
        let filter = made("{{ backends | josn }}").unwrap_err();
        assert!(filter.starts_with("line 1: ") && filter.contains("josn"), "{filter}");
        assert!(made("{% include '/etc/passwd' %}").unwrap_err().contains("line 1"), "there is nothing to include");
    }

    #[test]
    fn a_template_without_an_end_or_without_a_word_is_an_error() {
        let rounds = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
        assert!(made(rounds).unwrap_err().contains("fuel"), "{:?}", made(rounds));
        let words = "{% set a = 'x' * 1000000 %}{% for i in range(1000) %}{{ a }}{% endfor %}";
        assert!(made(words).unwrap_err().contains("256 MiB"), "{:?}", made(words));
        assert!(made("{# nothing #}").unwrap_err().contains("writes nothing"));
    }
}
