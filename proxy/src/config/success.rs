//! Which statuses of an endpoint are a success: a set of statuses, and exceptions by method.

use std::{fmt, str::FromStr};

use serde::{Serialize, Serializer};

/// A set of final HTTP statuses (200 to 599).
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusSet([u64; 10]);

/// Which statuses are ok, by request method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Success {
    otherwise: StatusSet,
    by_method: Vec<(Box<str>, StatusSet)>,
}

/// The text names no set of statuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a list of statuses: use for instance 2xx,3xx,404 or PURGE=200,204,404")]
pub struct InvalidSuccess(String);

impl StatusSet {
    /// Whether the status is in the set.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.get(usize::from(status / 64)).is_some_and(|word| word & (1 << (status % 64)) != 0)
    }

    fn insert(&mut self, status: u16) {
        self.0[usize::from(status / 64)] |= 1 << (status % 64);
    }
}

impl FromStr for StatusSet {
    type Err = InvalidSuccess;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidSuccess(text.to_owned());
        let mut set = Self::default();
        for item in text.split(',').map(str::trim) {
            match item.as_bytes() {
                [class @ b'2'..=b'5', b'x' | b'X', b'x' | b'X'] => {
                    let first = u16::from(class - b'0') * 100;
                    (first..first + 100).for_each(|status| set.insert(status));
                }
                [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'] => set.insert(item.parse().map_err(|_| invalid())?),
                _ => return Err(invalid()),
            }
        }
        Ok(set)
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for class in 2..=5_u16 {
            let members = (class * 100..class * 100 + 100).filter(|s| self.contains(*s));
            if members.clone().count() == 100 {
                write!(f, "{separator}{class}xx")?;
                separator = ",";
                continue;
            }
            for status in members {
                write!(f, "{separator}{status}")?;
                separator = ",";
            }
        }
        Ok(())
    }
}

impl fmt::Debug for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Success {
    /// Whether the status is ok for a request with this method.
    #[must_use]
    pub fn is_ok(&self, method: &[u8], status: u16) -> bool {
        let set = self.by_method.iter().find(|(name, _)| name.as_bytes() == method).map_or(&self.otherwise, |(_, s)| s);
        set.contains(status)
    }

    /// Reads a list of settings: `2xx,3xx` for every method, `PURGE=200,204` for one. Where none is for every method,
    /// the default (below 400) stays in force for the others.
    ///
    /// # Errors
    /// [`InvalidSuccess`] with the setting that is not understood, or that comes twice.
    pub fn parse<T: AsRef<str>>(settings: impl IntoIterator<Item = T>) -> Result<Self, InvalidSuccess> {
        let mut success = Self::default();
        let mut otherwise = None;
        for setting in settings {
            let setting = setting.as_ref();
            let invalid = || InvalidSuccess(setting.to_owned());
            match setting.split_once('=') {
                Some((methods, set)) => {
                    let set: StatusSet = set.parse().map_err(|_| invalid())?;
                    for method in methods.split(',').map(str::trim) {
                        let twice = success.by_method.iter().any(|(name, _)| **name == *method);
                        if twice || !super::matching::is_token(method) {
                            return Err(invalid());
                        }
                        success.by_method.push((method.into(), set));
                    }
                }
                None if otherwise.is_some() => return Err(invalid()),
                None => otherwise = Some(setting.parse()?),
            }
        }
        if let Some(set) = otherwise {
            success.otherwise = set;
        }
        Ok(success)
    }
}

impl Default for Success {
    /// Below 400.
    fn default() -> Self {
        let mut otherwise = StatusSet::default();
        (200..400).for_each(|status| otherwise.insert(status));
        Self { otherwise, by_method: Vec::new() }
    }
}

impl Serialize for Success {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = std::iter::once(self.otherwise.to_string());
        serializer.collect_seq(all.chain(self.by_method.iter().map(|(method, set)| format!("{method}={set}"))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_below_400() {
        let success = Success::default();
        assert!(success.is_ok(b"GET", 200) && success.is_ok(b"PURGE", 399));
        assert!(!success.is_ok(b"GET", 400) && !success.is_ok(b"GET", 503) && !success.is_ok(b"GET", 199));
    }

    #[test]
    fn a_method_may_have_a_set_of_its_own() {
        let success = Success::parse(["2xx,404", "PURGE,BAN=200,204"]).unwrap();
        assert!(success.is_ok(b"GET", 404) && success.is_ok(b"GET", 206) && !success.is_ok(b"GET", 302));
        assert!(success.is_ok(b"BAN", 204) && !success.is_ok(b"PURGE", 404) && success.is_ok(b"purge", 404));
        assert!(Success::parse(["PURGE=404"]).unwrap().is_ok(b"GET", 302), "the default stays for the others");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "1xx", "600", "2x", "abc", "PURGE=", "=200", "A B=200", "200,,201"] {
            assert!(Success::parse([text]).is_err(), "{text:?}");
        }
        assert!(Success::parse(["2xx", "3xx"]).is_err(), "two lists for every method");
    }

    #[test]
    fn a_set_prints_as_it_is_written() {
        assert_eq!("2xx,301,404".parse::<StatusSet>().unwrap().to_string(), "2xx,301,404");
    }
}
