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
//! - `arrival`: what comes before the first head: the header of a load balancer, the TLS handshake
//! - `connection`, `downstream`: one client connection, request by request
//! - `request`: one request: admitted or refused, sent, answered, whatever version of HTTP brought it
//! - [`proxy_protocol`]: what a load balancer says in front of a connection
//! - `http`: the strict HTTP/1.1 codec of both sides
//! - `control`: what a caller decides about one request
//! - `table`, `target`: routes and endpoints, made from configuration and snapshot, loaded once per request
//! - `own`: which endpoints are this process itself
//! - `headers`: what of a head goes on to the other side
//! - `grpc`: what is different about gRPC
//! - `secured`: TLS of listeners and of routes
//! - `exchange`: one request and its legs: the body window, the legs, the policy, the answer
//! - `seats`: which client connection makes room for another
//! - `transport`, `dial`, `reach`: connections to endpoints, to which address, and who makes them while none comes about
//! - `http2`, `multiplex`: HTTP/2 with clients, on `h2`; with endpoints, on `h2client`
//! - `clock`, `buffers`: the time of a wake-up, and memory that is used again, of one thread
//! - `outcome`, `problem`, `report`: what legs produced, and what the client is told
//! - `owed`: what endpoints missed, and the task that sends it again
//! - `access_log`, [`events`], `traces`, `metrics`, [`introspect`]: what people are told

#![allow(unreachable_pub, reason = "what is public in a private module is for the feature `bench`")]

mod access_log;
mod arrival;
#[cfg(any(test, feature = "bench"))]
pub mod bench;
mod buffers;
mod callers;
mod clock;
pub mod config;
mod connection;
mod control;
mod dial;
mod downstream;
pub mod events;
mod exchange;
mod grpc;
mod headers;
mod http;
mod http2;
pub mod introspect;
mod metrics;
mod multiplex;
mod outcome;
mod owed;
mod own;
mod problem;
mod proxy_error;
pub mod proxy_protocol;
mod reach;
mod report;
mod request;
mod seats;
pub mod secured;
pub mod server;
mod shared;
mod table;
mod target;
mod traces;
mod transport;

pub use config::Config;
pub use secured::{CheckedFiles, TlsProblem, check_files};
pub use server::{BindError, ChangedRoutes, Drained, Handle, ReloadError, RouteState, Running, SeenRoutes, Server};
