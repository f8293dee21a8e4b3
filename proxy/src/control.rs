//! Control over one request by its caller: `X-Broadcast-Require`, `-Timeout`, `-To`, `-Waves` and `-Dry-Run` are parsed, checked
//! and applied to the route. No I/O and no clock.

mod selection;

use std::{sync::Arc, time::Duration};

use snapshot::Chunks;

use self::selection::{InvalidSelector, Selection};
use crate::{
    config::{InvalidRequire, InvalidWaves, Require, Waves},
    http::{Class, Fields},
    table::RouteEntry,
    target::Target,
};

/// Fields with this prefix that the proxy itself writes; in requests they have no effect.
const WRITTEN_HERE: [&str; 6] = [
    "X-Broadcast-Result",
    "X-Broadcast-Endpoint",
    "X-Broadcast-Divergent",
    "X-Broadcast-Job",
    "X-Broadcast-Attempt",
    "X-Broadcast-Age",
];

const REQUIRE: &str = "X-Broadcast-Require";
const TIMEOUT: &str = "X-Broadcast-Timeout";
const TO: &str = "X-Broadcast-To";
const WAVES: &str = "X-Broadcast-Waves";
const DRY_RUN: &str = "X-Broadcast-Dry-Run";

/// The most endpoints that an error names.
const MAX_NAMED_ENDPOINTS: usize = 20;

/// A caller's settings for one request. Unset ones are those of the route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    require: Option<Require>,
    timeout: Option<Duration>,
    to: Option<Selection>,
    waves: Option<Waves>,
    /// Whether nothing is sent, and the answer is the plan.
    pub dry_run: bool,
}

/// Why the settings of a caller cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidControl {
    /// An unknown field, probably misspelt: ignoring it could reach more endpoints than intended.
    #[error("{0} is not known: use {REQUIRE}, {TIMEOUT}, {TO}, {WAVES} or {DRY_RUN}")]
    Unknown(String),
    /// It could mean either.
    #[error("{0} is there more than once: send it once")]
    Repeated(&'static str),
    /// Not how many must be ok.
    #[error("{REQUIRE}: {0}")]
    Require(#[from] InvalidRequire),
    /// No time, or none at all.
    #[error("{TIMEOUT}: {0:?} is not a time-out: use for instance 500ms or 3s, at most the time-out of the route")]
    Timeout(String),
    /// Not which endpoints.
    #[error("{TO}: {0}")]
    To(#[from] InvalidSelector),
    /// Not in which groups.
    #[error("{WAVES}: {0}")]
    Waves(#[from] InvalidWaves),
    /// Neither.
    #[error("{DRY_RUN}: {0:?} is neither true nor false")]
    DryRun(String),
    /// Longer than the route's.
    #[error(
        "{TIMEOUT}: {} is longer than the time-out of this route: use at most {}",
        runtime::duration::format(*.asked),
        runtime::duration::format(*.most)
    )]
    TooLong {
        /// What the request says.
        asked: Duration,
        /// What the route has.
        most: Duration,
    },
    /// More than there are.
    #[error(
        "{required} endpoints must be ok ({REQUIRE}: {require}), and there are {there}: use all, any, majority or 1 to {there}"
    )]
    TooMany {
        /// What the request says.
        require: Require,
        /// How many that means.
        required: usize,
        /// How many endpoints it goes to.
        there: usize,
    },
    /// Fewer than the route requires.
    #[error(
        "the route requires {required} endpoints to be ok, and {TO} chooses {there}: send {REQUIRE} as well, with all, any, majority or 1 to {there}"
    )]
    TooFew {
        /// How many must be ok.
        required: usize,
        /// How many endpoints are chosen.
        there: usize,
    },
    /// 404.
    #[error("{TO} chooses none of the endpoints; there are: {0}")]
    Nothing(String),
}

/// The first control field of a request.
pub(crate) fn first_field(fields: &Fields) -> Option<&[u8]> {
    broadcast_fields(fields).map(|(name, _)| name).find(|name| !is_written_here(name))
}

fn broadcast_fields(fields: &Fields) -> impl Iterator<Item = (&[u8], &[u8])> {
    // The fast path: few requests have such a field, and the parser has recorded whether there is one.
    let fields = fields.has(Class::Broadcast).then_some(fields);
    let is_prefixed = |name: &[u8]| Class::of(name) == Class::Broadcast;
    fields.into_iter().flat_map(Fields::iter).filter(move |(name, _)| is_prefixed(name))
}

fn is_written_here(name: &[u8]) -> bool {
    WRITTEN_HERE.iter().any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

// === impl InvalidControl ===

impl InvalidControl {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        if matches!(self, Self::Nothing(_)) { 404 } else { 400 }
    }
}

// === impl Control ===

impl Control {
    /// Parses the control fields of a request.
    ///
    /// # Errors
    /// A field that is not known or there twice, or whose value cannot be read.
    pub fn read(fields: &Fields) -> Result<Self, InvalidControl> {
        let (mut control, mut dry_run) = (Self::default(), None);
        for (name, value) in broadcast_fields(fields) {
            let (is, value) =
                (|known: &str| name.eq_ignore_ascii_case(known.as_bytes()), String::from_utf8_lossy(value));
            match () {
                () if is(REQUIRE) => once(&mut control.require, REQUIRE, value.parse()?)?,
                () if is(TIMEOUT) => {
                    let timeout = runtime::duration::parse(&value).ok().filter(|timeout| !timeout.is_zero());
                    let timeout = timeout.ok_or_else(|| InvalidControl::Timeout(value.into_owned()))?;
                    once(&mut control.timeout, TIMEOUT, timeout)?;
                }
                () if is(TO) => control.to.get_or_insert_default().add(&value)?,
                () if is(WAVES) => once(&mut control.waves, WAVES, value.parse()?)?,
                () if is(DRY_RUN) => {
                    let on = value.parse().map_err(|_| InvalidControl::DryRun(value.into_owned()))?;
                    once(&mut dry_run, DRY_RUN, on)?;
                }
                () if is_written_here(name) => {}
                () => return Err(InvalidControl::Unknown(String::from_utf8_lossy(name).into_owned())),
            }
        }
        Ok(Self { dry_run: dry_run.unwrap_or(false), ..control })
    }

    /// The route with these settings applied, for this request. None if nothing changes.
    ///
    /// # Errors
    /// No endpoint is chosen, more are required than there are, or the time is longer than the route's.
    pub fn apply(&self, route: &RouteEntry) -> Result<Option<RouteEntry>, InvalidControl> {
        if self.require.is_none() && self.timeout.is_none() && self.to.is_none() && self.waves.is_none() {
            return Ok(None);
        }
        let mut own = route.clone();
        if let Some(to) = &self.to {
            own.members = route.members.iter().filter(|member| to.takes(member)).cloned().collect();
            if own.members.is_empty() {
                return Err(InvalidControl::Nothing(named(&route.members)));
            }
        }
        let (policy, there) = (&mut Arc::make_mut(&mut own.config).policy, own.members.len());
        policy.waves = self.waves.or(policy.waves);
        policy.require = self.require.unwrap_or(policy.require);
        let required = policy.require.required(there);
        match self.require {
            Some(require) if required > there => return Err(InvalidControl::TooMany { require, required, there }),
            None if required > there && self.to.is_some() => return Err(InvalidControl::TooFew { required, there }),
            _ => {}
        }
        if let Some(asked) = self.timeout {
            let most = policy.timeouts.total;
            if asked > most {
                return Err(InvalidControl::TooLong { asked, most });
            }
            policy.timeouts.total = asked;
        }
        Ok(Some(own))
    }
}

/// Sets the value of a field that may occur once.
fn once<T>(place: &mut Option<T>, name: &'static str, value: T) -> Result<(), InvalidControl> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(InvalidControl::Repeated(name)),
    }
}

/// The keys of selectors, in words.
fn named(members: &Chunks<Arc<Target>>) -> String {
    let mut names: Vec<String> =
        members.iter().take(MAX_NAMED_ENDPOINTS).map(|member| selection::describe(member)).collect();
    if let Some(more) = members.len().checked_sub(MAX_NAMED_ENDPOINTS).filter(|more| *more > 0) {
        names.push(format!("and {more} more"));
    }
    names.join("; ")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::http::request::RequestHead;

    fn head(lines: &str) -> RequestHead {
        let text = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Other: 1\r\n{lines}\r\n");
        RequestHead::parse(Bytes::from(text), 999, Fields::default()).unwrap()
    }

    fn read(lines: &str) -> Result<Control, String> {
        Control::read(&head(lines).fields).map_err(|error| error.to_string())
    }

    #[test]
    fn fields_are_read_whatever_their_case() {
        assert_eq!(read(""), Ok(Control::default()));
        let control =
            read("x-broadcast-require: 50%\r\nX-BROADCAST-TIMEOUT: 1m3s\r\nX-Broadcast-Dry-Run: true\r\n").unwrap();
        assert_eq!(control.require, Some("50%".parse().unwrap()));
        assert_eq!((control.timeout, control.dry_run, control.to), (Some(Duration::from_secs(63)), true, None));
        assert!(!read("X-Broadcast-Dry-Run: false\r\n").unwrap().dry_run);
    }

    #[test]
    fn faults_say_what_is_allowed() {
        for (line, part) in [
            ("X-Broadcast-Require: most", "all, any, majority"),
            ("X-Broadcast-Require: 0", "X-Broadcast-Require: \"0\" is not a requirement"),
            ("X-Broadcast-Require: any\r\nx-broadcast-require: any", "X-Broadcast-Require is there more than once"),
            ("X-Broadcast-Timeout: 0s", "500ms or 3s"),
            ("X-Broadcast-Timeout: soon", "X-Broadcast-Timeout: \"soon\""),
            ("X-Broadcast-Timeout: -1s", "X-Broadcast-Timeout"),
            ("X-Broadcast-Timeout:", "X-Broadcast-Timeout"),
            ("X-Broadcast-Dry-Run: yes", "neither true nor false"),
            ("X-Broadcast-Dry-Run: true\r\nX-Broadcast-Dry-Run: false", "more than once"),
            ("X-Broadcast-Waves: 0", "X-Broadcast-Waves: \"0\" names no waves"),
            ("X-Broadcast-To: rack=1", "zone, pod, node and endpoint"),
            ("X-Broadcast-Too: zone=a", "X-Broadcast-Too is not known"),
        ] {
            let error = read(&format!("{line}\r\n")).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn fields_that_the_proxy_writes_are_ignored() {
        let head = head("X-Broadcast-Result: total=1\r\nx-broadcast-attempt: 2\r\nX-Broadcast-To: pod=a\r\n");
        assert_eq!(first_field(&head.fields), Some(&b"X-Broadcast-To"[..]));
        assert_eq!(first_field(&self::head("X-Broadcast-Age: 2\r\n").fields), None);
        assert_eq!(read("X-Broadcast-Age: 2\r\n"), Ok(Control::default()));
    }
}
