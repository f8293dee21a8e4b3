//! Names: parsed once at the edge, cheap to clone and compare afterwards.

use std::{borrow::Borrow, fmt, sync::Arc};

/// The name of a cluster: the endpoints of one port of one Service, one file, one DNS name or one fixed list.
///
/// At most [`ClusterName::MAX`] bytes of printable ASCII without spaces, so that it can stand in a log line, a metric
/// label and a URL path as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterName(Arc<str>);

/// Why a text is not a [`ClusterName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The text is empty.
    #[error("a cluster name must not be empty")]
    Empty,
    /// The text has more than [`ClusterName::MAX`] bytes.
    #[error("a cluster name has at most {} bytes, this one has {bytes}", ClusterName::MAX, bytes = .0)]
    TooLong(usize),
    /// The text has a character other than printable ASCII.
    #[error("a cluster name is printable ASCII without spaces, {0:?} is not")]
    Character(char),
}

impl ClusterName {
    /// The longest name, in bytes: a namespace (63), a Service name (63), a port name (63) and room for a scheme or a path.
    pub const MAX: usize = 1024;

    /// Checks and takes a name.
    ///
    /// # Errors
    /// [`InvalidName`] where the text is empty, too long or not printable ASCII.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidName> {
        let name = name.as_ref();
        if name.is_empty() {
            return Err(InvalidName::Empty);
        }
        if name.len() > Self::MAX {
            return Err(InvalidName::TooLong(name.len()));
        }
        match name.chars().find(|c| !c.is_ascii_graphic()) {
            Some(c) => Err(InvalidName::Character(c)),
            None => Ok(Self(name.into())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for ClusterName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_printable_ascii_of_bounded_length() {
        assert_eq!(ClusterName::new("shop/cache:http").unwrap().as_str(), "shop/cache:http");
        assert_eq!(ClusterName::new(""), Err(InvalidName::Empty));
        assert_eq!(ClusterName::new("a b"), Err(InvalidName::Character(' ')));
        assert_eq!(ClusterName::new("x".repeat(1025)), Err(InvalidName::TooLong(1025)));
    }
}
