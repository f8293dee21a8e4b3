//! Templates for names, with placeholders for prefix, namespace and service.

use std::{fmt, str::FromStr, sync::LazyLock};

/// A user's own scheme, such as `{prefix}-{namespace}--{service}`.
///
/// It has `{service}`; without `{namespace}`, Services of the same name in two namespaces collide, and without `{prefix}`
/// those of two remote clusters may.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Template {
    parts: Vec<NamePart>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NamePart {
    /// This text.
    Text(String),
    /// The prefix.
    Prefix,
    /// The remote namespace.
    Namespace,
    /// The remote Service.
    Service,
}

/// Why a text is no template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Every mirror would have the same name.
    #[error("{0:?} is neither v0.2 nor v0.3, and no template either, because it has no {{service}}")]
    NoService(String),
    /// A brace that does not belong to a known placeholder.
    #[error("{template:?} has {found:?}: the placeholders are {{prefix}}, {{namespace}} and {{service}}")]
    Placeholder {
        /// The template.
        template: String,
        /// The unknown part.
        found: String,
    },
    /// A character that no name can have.
    #[error("{template:?} has {found:?}: a name has lower-case letters, digits and - only")]
    Character {
        /// The template.
        template: String,
        /// The character.
        found: char,
    },
}

/// `<prefix>-<service>-6d6972726f720a-<namespace>`.
pub(super) fn v02() -> &'static Template {
    static V02: LazyLock<Template> =
        LazyLock::new(|| fixed([NamePart::Service, NamePart::Namespace], "-6d6972726f720a-"));
    &V02
}

/// `<prefix>-<namespace>-73736d-<service>`.
pub(super) fn v03() -> &'static Template {
    static V03: LazyLock<Template> = LazyLock::new(|| fixed([NamePart::Namespace, NamePart::Service], "-73736d-"));
    &V03
}

fn fixed([first, second]: [NamePart; 2], separator: &str) -> Template {
    Template {
        parts: vec![NamePart::Prefix, NamePart::Text("-".into()), first, NamePart::Text(separator.into()), second],
    }
}

impl Template {
    /// Its pieces. Two texts never follow one another.
    pub(crate) fn parts(&self) -> &[NamePart] {
        &self.parts
    }

    /// The text with all placeholders replaced, which need not be a valid name.
    pub(crate) fn fill(&self, prefix: &str, namespace: &str, service: &str) -> String {
        let piece = |part: &NamePart| match part {
            NamePart::Text(text) => text.clone(),
            NamePart::Prefix => prefix.to_owned(),
            NamePart::Namespace => namespace.to_owned(),
            NamePart::Service => service.to_owned(),
        };
        self.parts.iter().map(piece).collect()
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(template: &str) -> Result<Self, TemplateError> {
        let unknown = |found: &str| TemplateError::Placeholder { template: template.into(), found: found.into() };
        let mut parts = Vec::new();
        let mut rest = template;
        while !rest.is_empty() {
            let Some(inside) = rest.strip_prefix('{') else {
                let end = rest.find('{').unwrap_or(rest.len());
                let text = &rest[..end];
                let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
                match text.chars().find(|c| !inner(*c)) {
                    Some('}') => return Err(unknown("}")),
                    Some(found) => return Err(TemplateError::Character { template: template.into(), found }),
                    None => parts.push(NamePart::Text(text.into())),
                }
                rest = &rest[end..];
                continue;
            };
            let Some((name, after)) = inside.split_once('}') else { return Err(unknown(rest)) };
            parts.push(match name {
                "prefix" => NamePart::Prefix,
                "namespace" => NamePart::Namespace,
                "service" => NamePart::Service,
                _ => return Err(unknown(&rest[..name.len() + 2])),
            });
            rest = after;
        }
        if !parts.contains(&NamePart::Service) {
            return Err(TemplateError::NoService(template.into()));
        }
        Ok(Self { parts })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.fill("{prefix}", "{namespace}", "{service}"))
    }
}
