//! Log lines on stderr as text or JSON, at a level that can be changed while the process runs.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::{LevelFilter, dynamic_filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt as log, reload};

/// How much is logged: each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Level {
    /// Something failed that someone has to look at.
    Error,
    /// Something is wrong, but the process goes on without it.
    Warn,
    /// What an operator wants to know of a healthy process.
    #[default]
    Info,
    /// What helps to find a fault.
    Debug,
    /// Everything.
    Trace,
}

/// A text that names no level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown log level {0:?}: use error, warn, info, debug or trace")]
pub struct UnknownLevel(String);

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// A text that names no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown log format {0:?}: use text or json")]
pub struct UnknownFormat(String);

/// The level could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("the log level cannot be changed: another logger was installed in this process first")]
pub struct Detached;

/// The handle of the process's one logger. Cloning shares it.
#[derive(Clone)]
pub struct Telemetry {
    filter: reload::Handle<LevelFilter, Registry>,
    level: Arc<Mutex<Level>>,
}

static INSTALLED: OnceLock<Telemetry> = OnceLock::new();

/// Installs the process's logger and the bridge from the `log` crate. A process has one logger: a later call returns the handle of the first
/// with the level set anew and the first call's format. It never panics, so tests in one process may each call it.
pub fn init(level: Level, format: Format) -> Telemetry {
    let telemetry = INSTALLED.get_or_init(|| install(format)).clone();
    // It fails where another logger is installed, whose level then holds.
    let _ = telemetry.set_level(level);
    telemetry
}

fn install(format: Format) -> Telemetry {
    // The bridge from `log` keeps the highest level that it is installed with. The requested level is set right after.
    let (filter, handle) = reload::Layer::new(LevelFilter::TRACE);
    let layer = log::layer().with_writer(move || LineWriter { out: io::stderr(), format });
    let layer = match format {
        Format::Text => layer.with_ansi(false).boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    };
    let layer = layer.with_filter(dynamic_filter_fn(|metadata, _| is_wanted(metadata.target())));
    let installed = tracing_subscriber::registry().with(filter).with(layer).try_init();
    if let Err(error) = installed {
        tracing::debug!(%error, "a logger is already installed, keeping it");
    }
    Telemetry { filter: handle, level: Arc::new(Mutex::new(Level::Trace)) }
}

/// Libraries that read what peers send, and warn of what is wrong with it. Any client could fill the log with that, so it is logged
/// only for whoever looks for a fault; what becomes of a connection is counted, and told by its user.
const READERS_OF_PEERS: [&str; 2] = ["rustls", "h2"];

/// Whether events of this target are logged at the current level.
fn is_wanted(target: &str) -> bool {
    // It logs an error for every request that fails, which the caller logs as well, with what it does about it.
    if target == "kube_client::client::builder" {
        return false;
    }
    let library = target.split("::").next().unwrap_or_default();
    !READERS_OF_PEERS.contains(&library) || LevelFilter::current() >= LevelFilter::DEBUG
}

/// Writes each event as one line. Bytes of a peer may be part of it: they must neither look like another line nor control a
/// terminal. Credentials in URLs are hidden, wherever they come from.
struct LineWriter<W> {
    out: W,
    format: Format,
}

/// The logger's field for the time, and its name in all JSON of this process, the access log included.
const TIME: (&[u8], &[u8]) = (b"{\"timestamp\":", b"{\"time\":");

impl<W: io::Write> io::Write for LineWriter<W> {
    /// The logger writes one whole event at a time, with the line feed at its end.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let length = event.len();
        let redacted = without_credentials(event);
        let event = redacted.as_ref().map_or(event, |redacted| redacted.as_bytes());
        let line = event.strip_suffix(b"\n").unwrap_or(event);
        let (begin, rest) = match line.strip_prefix(TIME.0) {
            Some(rest) if self.format == Format::Json => (TIME.1, rest),
            _ => (&b""[..], line),
        };
        let mut out: Vec<u8> = Vec::with_capacity(event.len() + 16);
        out.extend(begin);
        for byte in rest {
            match byte {
                // The only control character that JSON does not escape.
                0x7f if self.format == Format::Json => out.extend(b"\\u007f"),
                byte if byte.is_ascii_control() => out.extend(byte.escape_ascii()),
                byte => out.push(*byte),
            }
        }
        out.extend(&event[line.len()..]);
        self.out.write_all(&out)?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The event without credentials, if it has any.
fn without_credentials(event: &[u8]) -> Option<String> {
    // Most events have no URL.
    let may_have_some = event.iter().any(|byte| matches!(byte, b'@' | b'?'));
    let text = may_have_some.then(|| std::str::from_utf8(event).ok())?.filter(|text| text.contains("://"))?;
    Some(crate::redact::urls(text)).filter(|redacted| redacted != text)
}

// === impl Telemetry ===

impl Telemetry {
    /// The current level.
    #[must_use]
    pub fn level(&self) -> Level {
        *self.level.lock()
    }

    /// Changes the level for the whole process.
    ///
    /// # Errors
    /// Somebody else installed a logger in this process before [`init`].
    pub fn set_level(&self, level: Level) -> Result<(), Detached> {
        // Locked across both, so that `level` returns what the logger uses.
        let mut current = self.level.lock();
        self.filter.reload(LevelFilter::from(level)).map_err(|_| Detached)?;
        *current = level;
        Ok(())
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("level", &self.level()).finish()
    }
}

// === impl Level ===

impl Level {
    /// The level's name, as [`FromStr`] reads it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl FromStr for Level {
    type Err = UnknownLevel;

    /// Reads `error`, `warn`, `info`, `debug`, `trace` in any case, and also `warning`, and `fatal` and `panic`, which mean `error` here.
    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        Ok(match text.trim().to_ascii_lowercase().as_str() {
            "error" | "fatal" | "panic" => Self::Error,
            "warn" | "warning" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            "trace" => Self::Trace,
            _ => return Err(UnknownLevel(text.to_owned())),
        })
    }
}

impl TryFrom<String> for Level {
    type Error = UnknownLevel;

    fn try_from(text: String) -> Result<Self, UnknownLevel> {
        text.parse()
    }
}

impl From<Level> for String {
    fn from(level: Level) -> Self {
        level.as_str().to_owned()
    }
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

// === impl Format ===

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text.trim().to_ascii_lowercase().as_str() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(UnknownFormat(text.to_owned())),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_spelling_of_a_level() {
        let table = [
            ("trace", Level::Trace),
            ("DEBUG", Level::Debug),
            ("info", Level::Info),
            ("warn", Level::Warn),
            ("warning", Level::Warn),
            ("error", Level::Error),
            ("fatal", Level::Error),
            ("panic", Level::Error),
            (" debug\n", Level::Debug),
        ];
        for (text, level) in table {
            assert_eq!(text.parse(), Ok(level), "{text}");
        }
        let error = "loud".parse::<Level>().expect_err("no such level").to_string();
        assert!(error.contains("\"loud\"") && error.contains("trace"), "{error}");
        assert_eq!(serde_json::from_str::<Level>("\"warning\"").expect("a level"), Level::Warn);
        assert_eq!("JSON".parse(), Ok(Format::Json));
        assert!("xml".parse::<Format>().is_err());
    }

    #[test]
    fn many_calls_share_one_logger_whose_level_can_change() {
        let first = init(Level::Info, Format::Text);
        let second = init(Level::Warn, Format::Json);
        assert_eq!(first.level(), Level::Warn);
        assert!(!tracing::enabled!(tracing::Level::INFO));
        first.set_level(Level::Debug).expect("this logger is installed");
        assert_eq!(second.level(), Level::Debug);
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        assert!(!tracing::enabled!(tracing::Level::TRACE));
    }
}
