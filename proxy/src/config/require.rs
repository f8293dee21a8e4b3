//! How many legs must be ok: `all`, `any`, `majority`, a number or a percentage.

use std::{fmt, num::NonZeroUsize, str::FromStr};

use serde::{Serialize, Serializer};

/// How many legs must be ok for the request to succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Require {
    /// Every leg (consistency mode).
    All,
    /// One leg, the first (availability mode).
    Any,
    /// More than half of the legs.
    Majority,
    /// This many legs.
    Count(NonZeroUsize),
    /// This share of the legs in percent, rounded up; 1 to 100.
    Percent(u8),
}

/// The text is not a requirement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a requirement: use all, any, majority, a number from 1 (like 2), or a percentage from 1% to 100%"
)]
pub struct InvalidRequire(String);

impl Require {
    /// How many of `total` legs must be ok; may be more than `total`.
    #[must_use]
    pub fn required(self, total: usize) -> usize {
        match self {
            Self::All => total,
            Self::Any => 1,
            Self::Majority => total / 2 + 1,
            Self::Count(k) => k.get(),
            Self::Percent(p) => (total * usize::from(p)).div_ceil(100).max(1),
        }
    }

    /// Whether one ok leg is enough by definition, so that its answer can be streamed.
    #[must_use]
    pub fn is_any(self) -> bool {
        matches!(self, Self::Any | Self::Count(NonZeroUsize::MIN))
    }
}

impl FromStr for Require {
    type Err = InvalidRequire;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidRequire(text.to_owned());
        match text {
            "all" => Ok(Self::All),
            "any" => Ok(Self::Any),
            "majority" => Ok(Self::Majority),
            _ => match text.strip_suffix('%') {
                Some(percent) => {
                    let percent = percent.parse().ok().filter(|p| (1..=100).contains(p)).ok_or_else(invalid)?;
                    Ok(Self::Percent(percent))
                }
                None => text.parse().map(Self::Count).map_err(|_| invalid()),
            },
        }
    }
}

impl fmt::Display for Require {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Any => f.write_str("any"),
            Self::Majority => f.write_str("majority"),
            Self::Count(k) => write!(f, "{k}"),
            Self::Percent(p) => write!(f, "{p}%"),
        }
    }
}

impl Serialize for Require {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_round_trip_and_nonsense_is_refused() {
        for text in ["all", "any", "majority", "1", "7", "1%", "100%"] {
            assert_eq!(text.parse::<Require>().unwrap().to_string(), text);
        }
        for text in ["", "0", "-1", "0%", "101%", "%", "most", "1.5", "ALL"] {
            assert!(text.parse::<Require>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn required_counts() {
        let required = |text: &str, total| text.parse::<Require>().unwrap().required(total);
        assert_eq!((required("all", 3), required("any", 3), required("2", 3)), (3, 1, 2));
        assert_eq!((required("majority", 2), required("majority", 3), required("majority", 4)), (2, 2, 3));
        assert_eq!((required("50%", 3), required("1%", 3), required("100%", 3), required("67%", 3)), (2, 1, 3, 3));
        assert_eq!(required("5", 3), 5, "out of reach");
    }
}
