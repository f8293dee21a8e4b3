//! `fanfare mirror` between two real API servers.

mod access;
pub(crate) mod bed;
mod coredns;
mod dry_run;
mod replicas;
mod scale;
mod unmatched;
