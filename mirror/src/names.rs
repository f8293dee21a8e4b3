//! The names of mirrors: made by a scheme, cut and hashed where they are too long.
//!
//! Rule: a name is a function of scheme, prefix, namespace and service alone. So it survives restarts, does not depend on other
//! objects, and two Services collide exactly where their [`Name`]s are equal.

mod hash;
mod template;

use std::{fmt, str::FromStr, sync::Arc};

pub(crate) use template::NamePart;
pub use template::{Template, TemplateError};

/// The longest name of a Service: a DNS label (RFC 1035, section 2.3.4).
pub const MAX_NAME: usize = 63;

/// How much of a scheme's name stays in a hashed one; `-` and [`HASH_CHARACTERS`] characters follow.
pub const KEPT_CHARACTERS: usize = 52;

/// The length of the hash in a hashed name.
pub const HASH_CHARACTERS: usize = 10;

/// The scheme of local names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `<prefix>-<service>-6d6972726f720a-<namespace>`: the scheme of kube-service-mirror up to 0.2.
    #[default]
    V02,
    /// `<prefix>-<namespace>-73736d-<service>`: the scheme of its later versions and of its successor.
    V03,
    /// The user's own template.
    Template(Template),
}

/// The name of a mirrored Service: a DNS-1035 label of at most [`MAX_NAME`] characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    text: Arc<str>,
    hashed: bool,
}

/// Why a Service cannot have a local name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the local name would be {name:?}, which is no DNS-1035 label (lower-case letters, digits and -, beginning with a \
     letter, not ending with -): choose another prefix or template"
)]
pub struct NameError {
    /// The invalid name that the scheme makes.
    pub name: String,
}

/// Why a prefix cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a prefix is a DNS-1035 label of at most {MAX_NAME} characters (lower-case letters, digits and -, beginning with a \
     letter, not ending with -), and {0:?} is not"
)]
pub struct PrefixError(pub String);

/// The local name of a remote Service.
///
/// # Errors
/// [`NameError`] where the scheme's name is no DNS-1035 label, for instance because a template begins with a service whose
/// name begins with a digit.
pub fn local_name(scheme: &Scheme, prefix: &str, namespace: &str, service: &str) -> Result<Name, NameError> {
    let full = scheme.apply(prefix, namespace, service);
    if !is_label_of_any_length(&full) {
        return Err(NameError { name: full });
    }
    if full.len() <= MAX_NAME {
        return Ok(Name { text: full.into(), hashed: false });
    }
    // A `-` in front of the separator is dropped.
    let kept = full[..KEPT_CHARACTERS].trim_end_matches('-');
    let text = format!("{kept}-{}", hash::of(&full)).into();
    Ok(Name { text, hashed: true })
}

/// Checks a prefix: it is the value of a label and begins the names of the fixed schemes.
///
/// # Errors
/// [`PrefixError`].
pub fn check_prefix(prefix: &str) -> Result<(), PrefixError> {
    let usable = prefix.len() <= MAX_NAME && is_label_of_any_length(prefix);
    if usable { Ok(()) } else { Err(PrefixError(prefix.to_owned())) }
}

/// Whether it is a DNS-1035 label, apart from its length.
fn is_label_of_any_length(text: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    let begins = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    begins && !text.ends_with('-') && text.as_bytes().iter().all(inner)
}

impl Scheme {
    /// The scheme as a template. The fixed schemes are templates with a name.
    pub fn template(&self) -> &Template {
        match self {
            Self::V02 => template::v02(),
            Self::V03 => template::v03(),
            Self::Template(template) => template,
        }
    }

    fn apply(&self, prefix: &str, namespace: &str, service: &str) -> String {
        self.template().fill(prefix, namespace, service)
    }
}

impl FromStr for Scheme {
    type Err = TemplateError;

    /// Reads `v0.2`, `v0.3` or a template.
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        match text {
            "v0.2" => Ok(Self::V02),
            "v0.3" => Ok(Self::V03),
            template => template.parse().map(Self::Template),
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V02 => f.write_str("v0.2"),
            Self::V03 => f.write_str("v0.3"),
            Self::Template(template) => template.fmt(f),
        }
    }
}

impl Name {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it is cut and hashed: then namespace and service cannot be read from it.
    pub fn is_hashed(&self) -> bool {
        self.hashed
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests;
