//! Which endpoints and ports of a Service become part of an export.

use std::{fmt, str::FromStr, sync::Arc};

use snapshot::Endpoint;

/// Which endpoints of a port are members of its backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Members {
    /// The ready ones, to which a Service sends traffic.
    #[default]
    Ready,
    /// Those that serve, even while they terminate, and all ready ones, which need not serve with `publishNotReadyAddresses`.
    Serving,
    /// The ready ones; where there is none, those that serve while they terminate, as with kube-proxy.
    ReadyElseServing,
    /// All known endpoints, whatever their conditions.
    Known,
}

/// A port that is exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortChoice {
    /// By its name (`Service.spec.ports[].name`).
    Named(Arc<str>),
    /// By the number that its endpoints listen on (`EndpointSlice.ports[].port`).
    Number(u16),
}

/// The text is not one of [`Members`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of ready, serving, ready-else-serving and known")]
pub struct InvalidMembers(String);

/// The text is not a [`PortChoice`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither the name of a port nor a number from 1 to 65535")]
pub struct InvalidPort(String);

impl Members {
    /// The members among these endpoints, in their order; the same list if all are.
    pub(super) fn of(self, endpoints: Arc<[Endpoint]>) -> Arc<[Endpoint]> {
        let ready = |endpoint: &Endpoint| endpoint.conditions.ready;
        let serving = |endpoint: &Endpoint| endpoint.conditions.serving;
        let keep: &dyn Fn(&Endpoint) -> bool = match self {
            Self::Ready => &ready,
            Self::Serving => &|endpoint| ready(endpoint) || serving(endpoint),
            Self::ReadyElseServing if endpoints.iter().any(ready) => &ready,
            Self::ReadyElseServing => &|endpoint| serving(endpoint) && endpoint.conditions.terminating,
            Self::Known => return endpoints,
        };
        if endpoints.iter().all(keep) { endpoints } else { endpoints.iter().filter(|one| keep(one)).cloned().collect() }
    }
}

impl FromStr for Members {
    type Err = InvalidMembers;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Ready, Self::Serving, Self::ReadyElseServing, Self::Known];
        all.into_iter().find(|one| one.to_string() == text).ok_or_else(|| InvalidMembers(text.to_owned()))
    }
}

impl fmt::Display for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Serving => "serving",
            Self::ReadyElseServing => "ready-else-serving",
            Self::Known => "known",
        })
    }
}

impl FromStr for PortChoice {
    type Err = InvalidPort;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidPort(text.to_owned());
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().ok().filter(|number| *number > 0).map(Self::Number).ok_or_else(invalid);
        }
        // The name of a port is a DNS label in Kubernetes.
        let fits = text.len() <= 63 && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if fits { Ok(Self::Named(text.into())) } else { Err(invalid()) }
    }
}

impl fmt::Display for PortChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use snapshot::Conditions;

    use super::*;

    fn endpoints(conditions: &[(bool, bool, bool)]) -> Vec<Endpoint> {
        let numbered = conditions.iter().zip(1..);
        let one = |(&(ready, serving, terminating), n)| Endpoint {
            conditions: Conditions { ready, serving, terminating },
            ..Endpoint::ready(([192, 0, 2, n], 80).into())
        };
        numbered.map(one).collect()
    }

    fn chosen(members: &str, conditions: &[(bool, bool, bool)]) -> Vec<u8> {
        let members: Members = members.parse().unwrap();
        let last = |endpoint: &Endpoint| endpoint.address.to_string().trim_end_matches(":80").as_bytes()[8] - b'0';
        members.of(endpoints(conditions).into()).iter().map(last).collect()
    }

    #[test]
    fn members_are_chosen_by_their_conditions() {
        let (ready, down, ending) = ((true, true, false), (false, false, false), (false, true, true));
        let warming = (false, true, false);
        let all = [ready, down, ending, warming];
        assert_eq!(chosen("ready", &all), [1]);
        assert_eq!(chosen("serving", &all), [1, 3, 4]);
        let published = (true, false, false);
        assert_eq!(chosen("serving", &[ready, published]), [1, 2], "what is ready is never missing");
        assert_eq!(chosen("ready-else-serving", &all), [1]);
        assert_eq!(chosen("ready-else-serving", &[down, ending, warming]), [2]);
        assert_eq!(chosen("known", &all), [1, 2, 3, 4]);
        assert!(chosen("ready", &[down, ending]).is_empty());
    }

    #[test]
    fn a_port_is_chosen_by_name_or_number() {
        assert_eq!("http".parse(), Ok(PortChoice::Named("http".into())));
        assert_eq!("8080".parse(), Ok(PortChoice::Number(8080)));
        for wrong in ["0", "65536", "HTTP", "a b", "", &"x".repeat(64)] {
            let error = wrong.parse::<PortChoice>().unwrap_err().to_string();
            assert!(error.contains(&format!("{wrong:?}")) && error.contains("65535"), "{error}");
        }
        assert!("redy".parse::<Members>().unwrap_err().to_string().contains("ready-else-serving"));
    }
}
