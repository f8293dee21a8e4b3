//! `fanfare discover` and `fanfare bridge`: the binary from a real API server to a real store, and from there to files.

pub(crate) mod bed;
mod bridge;
mod consumers;
mod defects;
mod disk;
mod exports;
mod replicas;
mod scale;
