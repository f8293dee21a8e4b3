//! The data plane: a snapshot goes in, responses come out.
//!
//! ```text
//! listener -> limits -> route -> table (one load) -> plan -> legs -> outcomes -> policy -> answer
//! ```
//!
//! The modules in the order in which a request meets them:
//!
//! - [`config`]: what may be asked for, checked
//! - [`server`]: listeners, workers, reload, drain
//! - `connection`, `downstream`: one client connection, request by request
//! - `request`: one request: admitted or refused, sent, answered, whatever version of HTTP brought it
//! - [`proxy_protocol`]: what a load balancer says in front of a connection
//! - [`http`]: the strict HTTP/1.1 codec of both sides
//! - [`table`], [`target`]: routes and endpoints, made from configuration and snapshot, loaded once per request
//! - [`headers`]: what of a head goes on to the other side
//! - [`exchange`]: one request and its legs: the body window, the legs, the policy, the answer
//! - `seats`: which client connection makes room for another
//! - [`transport`], `dial`, `reach`: connections to endpoints, to which address, and who makes them while none comes about
//! - `clock`, `buffers`: the time of a wake-up, and memory that is used again, of one thread
//! - [`outcome`], [`problem`], [`report`]: what legs produced, and what the client is told
//! - [`access_log`], [`metrics`], [`introspect`]: what people are told

pub mod access_log;
mod buffers;
mod clock;
pub mod config;
mod connection;
mod dial;
mod downstream;
pub mod exchange;
pub mod headers;
pub mod http;
pub mod http2;
pub mod introspect;
pub mod metrics;
mod multiplex;
pub mod outcome;
pub mod problem;
pub mod proxy_error;
pub mod proxy_protocol;
mod reach;
pub mod report;
mod request;
mod seats;
pub mod server;
mod shared;
pub mod table;
pub mod target;
pub mod transport;

pub use config::Config;
pub use server::{BindError, Drained, Handle, ReloadError, RouteState, Running, Server};
