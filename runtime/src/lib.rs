//! The parts that every role needs: configuration helpers, the admin API, readiness, drain, signals, telemetry, metrics, TLS.

pub mod accept;
pub mod admin;
pub mod backoff;
pub mod boot_time;
pub mod build_info;
pub mod config;
pub mod drain;
pub mod duration;
pub mod file_watch;
pub mod files;
pub mod if_none_match;
pub mod limits;
pub mod listener;
pub mod metrics;
mod pieces;
pub mod process_group;
pub mod readiness;
pub mod redact;
pub mod signal;
pub mod size;
pub mod systemd;
pub mod telemetry;
pub mod tls;
