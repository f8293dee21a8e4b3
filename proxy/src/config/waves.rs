//! Waves: endpoints get a request in groups, one after the other: `1, pause=2s` or `size=25%, pause=2s, on-failure=continue`.

use std::{fmt, num::NonZeroUsize, str::FromStr, time::Duration};

use serde::Serialize;

use super::serialize::{display, go_duration};

/// Waves of one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Waves {
    /// How many endpoints a group has.
    #[serde(serialize_with = "display")]
    pub size: WaveSize,
    /// The pause between the success of a group and the start of the next one.
    #[serde(serialize_with = "go_duration")]
    pub pause: Duration,
    /// What becomes of the rest where an endpoint of a group is not ok.
    pub on_failure: OnFailure,
}

/// How many endpoints a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaveSize {
    /// This many.
    Count(NonZeroUsize),
    /// This share of all in percent, rounded up; 1 to 100.
    Percent(u8),
}

/// What becomes of the rest where an endpoint of a group is not ok.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The remaining endpoints do not get the request.
    #[default]
    Stop,
    /// The remaining endpoints get the request nevertheless.
    Continue,
}

/// The text is not a setting of waves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no waves: use for instance 1, or size=25%, pause=2s, on-failure=continue (else it stops)")]
pub struct InvalidWaves(String);

// === impl Waves ===

impl FromStr for Waves {
    type Err = InvalidWaves;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidWaves(text.to_owned());
        let (mut size, mut pause, mut on_failure) = (None, None, None);
        for part in text.split(',').map(str::trim) {
            // A value without a name is the size.
            let (name, value) =
                part.split_once('=').map_or(("size", part), |(name, value)| (name.trim(), value.trim()));
            let repeated = match name {
                "size" => size.replace(value.parse::<WaveSize>().map_err(|_| invalid())?).is_some(),
                "pause" => pause.replace(runtime::duration::parse(value).map_err(|_| invalid())?).is_some(),
                "on-failure" | "on_failure" => {
                    on_failure.replace(value.parse::<OnFailure>().map_err(|_| invalid())?).is_some()
                }
                _ => return Err(invalid()),
            };
            if repeated {
                return Err(invalid());
            }
        }
        let size = size.ok_or_else(invalid)?;
        Ok(Self { size, pause: pause.unwrap_or_default(), on_failure: on_failure.unwrap_or_default() })
    }
}

impl fmt::Display for Waves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pause = runtime::duration::format(self.pause);
        write!(f, "size={}, pause={pause}, on-failure={}", self.size, self.on_failure.as_str())
    }
}

// === impl OnFailure ===

impl OnFailure {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Continue => "continue",
        }
    }
}

impl FromStr for OnFailure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = [Self::Stop, Self::Continue].into_iter().find(|known| known.as_str() == text);
        known.ok_or_else(|| format!("{text:?} says nothing about the rest of the endpoints: use stop or continue"))
    }
}

// === impl WaveSize ===

impl WaveSize {
    /// The size of a group among `total` endpoints.
    #[must_use]
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count.get(),
            Self::Percent(percent) => (total * usize::from(percent)).div_ceil(100).max(1),
        }
    }
}

impl FromStr for WaveSize {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|p| (1..=100).contains(p)).map(Self::Percent).ok_or(()),
            None => text.parse().map(Self::Count).map_err(|_| ()),
        }
    }
}

impl fmt::Display for WaveSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waves(text: &str) -> Waves {
        text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    #[test]
    fn texts_round_trip_and_nonsense_is_refused() {
        for (text, shown) in [
            ("1", "size=1, pause=0s, on-failure=stop"),
            ("1, pause=2s", "size=1, pause=2s, on-failure=stop"),
            ("size=25%,pause=500ms,on-failure=continue", "size=25%, pause=500ms, on-failure=continue"),
            ("pause = 1m , size = 3, on-failure=stop", "size=3, pause=1m0s, on-failure=stop"),
        ] {
            assert_eq!(waves(text).to_string(), shown);
            assert_eq!(waves(shown), waves(text));
        }
        for text in [
            "",
            "0",
            "0%",
            "101%",
            "1.5",
            "pause=2s",
            "1,2",
            "1,pause=-1s",
            "1,pause=2s,pause=2s",
            "1,on-failure=no",
            "1,x=y",
            "1,",
        ] {
            let error = text.parse::<Waves>().expect_err(text).to_string();
            assert!(error.contains("size=25%"), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_share_is_rounded_up() {
        let size = |text: &str, total| waves(text).size.of(total);
        assert_eq!((size("2", 5), size("25%", 4), size("25%", 5), size("1%", 3), size("100%", 7)), (2, 1, 2, 1, 7));
    }
}
