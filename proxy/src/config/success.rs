//! The successful statuses of an endpoint: a set of statuses, and exceptions by method.

use std::fmt;

use serde::{Serialize, Serializer};

use super::Match;
use crate::grpc::{Code, CodeSet};

/// A set of final HTTP statuses (200 to 599).
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct StatusSet([u64; 10]);

/// Which statuses are ok, by request method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Success {
    otherwise: StatusSet,
    by_method: Vec<(Box<str>, StatusSet)>,
    grpc: CodeSet,
}

/// The text is not a set of statuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSuccess {
    /// Neither a status nor a method with statuses.
    #[error("{0:?} is not a list of statuses: use for instance 2xx,3xx,404 or PURGE=200,204,404")]
    Text(String),
    /// Not statuses of gRPC.
    #[error("{0:?} is not a list of gRPC statuses: use numbers from 0 to 16, for instance grpc:0,5")]
    Grpc(String),
    /// Statuses that may be meant for a method or for every method.
    #[error(
        "{statuses:?} stands after the statuses of {method}: for {method} too, write them as one text (\"{method}=200,404\"); \
         for every method, write them first"
    )]
    WhoseIsIt {
        /// What stands there.
        statuses: String,
        /// The method before it.
        method: String,
    },
}

/// The state of parsing.
struct Reading {
    otherwise: Option<StatusSet>,
    by_method: Vec<(Box<str>, StatusSet)>,
    /// The index in `by_method` of the methods for the next status; none if it is for every method.
    current: Option<usize>,
}

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

impl StatusSet {
    /// Adds a status, or a class of them.
    ///
    /// # Errors
    /// Where the text is neither.
    fn add(&mut self, text: &str) -> Result<(), ()> {
        match text.as_bytes() {
            [class @ b'2'..=b'5', b'x' | b'X', b'x' | b'X'] => {
                let first = u16::from(class - b'0') * 100;
                (first..first + 100).for_each(|status| self.insert(status));
            }
            [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9'] => self.insert(text.parse().map_err(|_| ())?),
            _ => return Err(()),
        }
        Ok(())
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

    /// Reads a list of settings, each of them a list as well: `2xx,3xx,404` is for every method, `PURGE=200,404` for
    /// that one, `PURGE,BAN=200` for both; `200,PURGE=200,404` says both at once. Where nothing is for every method, the
    /// default (below 400) applies to the others. `grpc:0,5` is for requests of gRPC, where 0 is the default.
    ///
    /// # Errors
    /// [`InvalidSuccess`] with the setting that is not understood, or may be misunderstood.
    pub fn parse<T: AsRef<str>>(settings: impl IntoIterator<Item = T>) -> Result<Self, InvalidSuccess> {
        let mut reading = Reading { otherwise: None, by_method: Vec::new(), current: None };
        let mut grpc = CodeSet::default();
        for setting in settings {
            match setting.as_ref().trim().strip_prefix("grpc:") {
                Some(codes) => grpc = grpc_codes(codes).ok_or_else(|| InvalidSuccess::Grpc(codes.to_owned()))?,
                None => reading.read(setting.as_ref())?,
            }
        }
        let Reading { otherwise, by_method, .. } = reading;
        Ok(Self { otherwise: otherwise.unwrap_or(Self::default().otherwise), by_method, grpc })
    }

    /// Which statuses of gRPC are ok.
    #[must_use]
    pub fn grpc(&self) -> CodeSet {
        self.grpc
    }

    /// The methods that have statuses of their own.
    pub fn methods(&self) -> impl Iterator<Item = &str> {
        self.by_method.iter().map(|(method, _)| &**method)
    }
}

/// The statuses in a list of numbers.
fn grpc_codes(codes: &str) -> Option<CodeSet> {
    let codes: Result<Vec<Code>, _> = codes.split(',').map(|code| code.trim().parse()).collect();
    CodeSet::of(codes.ok()?)
}

impl Reading {
    fn read(&mut self, setting: &str) -> Result<(), InvalidSuccess> {
        let invalid = || InvalidSuccess::Text(setting.to_owned());
        if let Some((method, _)) = self.current.take().and_then(|at| self.by_method.get(at))
            && setting.trim_start().starts_with(|c: char| c.is_ascii_digit())
        {
            return Err(InvalidSuccess::WhoseIsIt { statuses: setting.to_owned(), method: method.to_string() });
        }
        // Methods that have been named, but not their statuses yet.
        let mut named = Vec::new();
        for item in setting.split(',').map(str::trim) {
            let (methods, status) = match item.split_once('=') {
                Some((method, status)) => (Some(method.trim_end()), Some(status.trim_start())),
                None if item.starts_with(|c: char| c.is_ascii_digit()) => (None, Some(item)),
                None => (Some(item), None),
            };
            named.extend(methods.map(Match::method).transpose().map_err(|_| invalid())?);
            let Some(status) = status else { continue };
            match (methods.is_some(), named.is_empty()) {
                (true, _) => self.begin(std::mem::take(&mut named)),
                (false, true) => {}
                (false, false) => return Err(invalid()),
            }
            self.add(status).map_err(|()| invalid())?;
        }
        if named.is_empty() { Ok(()) } else { Err(invalid()) }
    }

    /// The next statuses are for these methods; their earlier statuses stay.
    fn begin(&mut self, methods: Vec<Box<str>>) {
        let before = |method: &str| self.by_method.iter().find(|(name, _)| **name == *method).map(|(_, set)| *set);
        let methods: Vec<_> = methods.into_iter().map(|method| (before(&method).unwrap_or_default(), method)).collect();
        self.by_method.retain(|(name, _)| methods.iter().all(|(_, method)| method != name));
        self.current = Some(self.by_method.len());
        self.by_method.extend(methods.into_iter().map(|(set, method)| (method, set)));
    }

    fn add(&mut self, status: &str) -> Result<(), ()> {
        match self.current {
            Some(from) => self.by_method[from..].iter_mut().try_for_each(|(_, set)| set.add(status)),
            None => self.otherwise.get_or_insert_default().add(status),
        }
    }
}

impl Default for Success {
    /// Below 400.
    fn default() -> Self {
        let mut otherwise = StatusSet::default();
        (200..400).for_each(|status| otherwise.insert(status));
        Self { otherwise, by_method: Vec::new(), grpc: CodeSet::default() }
    }
}

impl Serialize for Success {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all = std::iter::once(self.otherwise.to_string());
        let by_method = self.by_method.iter().map(|(method, set)| format!("{method}={set}"));
        let grpc = (self.grpc != CodeSet::default()).then(|| format!("grpc:{}", self.grpc));
        serializer.collect_seq(all.chain(by_method).chain(grpc))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_of_grpc_are_numbers() {
        let success = Success::parse(["200", "grpc:0,5"]).unwrap();
        assert!(success.grpc().contains(5) && success.grpc().contains(0) && !success.grpc().contains(14));
        assert_eq!(serde_json::to_string(&success).unwrap(), r#"["200","grpc:0,5"]"#);
        assert!(Success::default().grpc().contains(0) && !Success::default().grpc().contains(5));
        for bad in ["grpc:", "grpc:17", "grpc:x", "grpc:0;5"] {
            assert!(matches!(Success::parse([bad]), Err(InvalidSuccess::Grpc(_))), "{bad}");
        }
    }

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
    fn a_list_may_go_on_from_every_method_to_single_ones() {
        let success = Success::parse(["200,PURGE=200,404"]).unwrap();
        assert!(success.is_ok(b"GET", 200) && !success.is_ok(b"GET", 404) && !success.is_ok(b"GET", 204));
        assert!(success.is_ok(b"PURGE", 200) && success.is_ok(b"PURGE", 404) && !success.is_ok(b"PURGE", 204));
        assert_eq!(success.methods().collect::<Vec<_>>(), ["PURGE"]);
        let success = Success::parse(["2xx, PURGE, BAN = 200, 404, GET=5xx"]).unwrap();
        assert!(success.is_ok(b"BAN", 404) && success.is_ok(b"PURGE", 404) && success.is_ok(b"GET", 503));
        assert!(success.is_ok(b"HEAD", 204) && !success.is_ok(b"GET", 200));
    }

    #[test]
    fn elements_of_a_list_add_up() {
        assert_eq!(Success::parse(["200", "404"]), Success::parse(["200,404"]));
        assert_eq!(Success::parse(["200", "PURGE=200,404"]), Success::parse(["200,PURGE=200,404"]));
        assert_eq!(Success::parse(["PURGE=200", "PURGE=404"]), Success::parse(["PURGE=200,404"]));
        let error = Success::parse(["PURGE=200", "404"]).unwrap_err().to_string();
        assert!(error.contains("PURGE=200,404") && error.contains("write them first"), "{error}");
    }

    #[test]
    fn nonsense_is_refused() {
        let texts = [
            "",
            "1xx",
            "600",
            "2x",
            "abc",
            "PURGE=",
            "=200",
            "A B=200",
            "200,,201",
            "PURGE",
            "200,PURGE",
            "PURGE,200",
            "200=404",
            "PURGE=200,BAN",
            "-X=200",
            "PURGE==200",
        ];
        for text in texts {
            assert!(Success::parse([text]).is_err(), "{text:?}");
        }
    }

    #[test]
    fn shown_values_read_back() {
        let success = Success::parse(["2xx,301,404", "PURGE,BAN=200,5xx"]).unwrap();
        let shown = serde_json::to_value(&success).unwrap();
        assert_eq!(shown, serde_json::json!(["2xx,301,404", "PURGE=200,5xx", "BAN=200,5xx"]));
        let texts: Vec<_> = shown.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
        assert_eq!(Success::parse(texts).unwrap(), success);
    }
}
