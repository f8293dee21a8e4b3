//! The proxy over real sockets: what endpoints receive byte for byte, and what clients see.

mod access_log;
mod bad_input;
mod corpus;
mod defects;
mod drain;
mod fixture;
mod grpc;
mod grpc_streams;
mod http1;
mod http2;
mod http2_attacks;
mod http2_bad_endpoints;
mod http2_endpoints;
mod http2_smuggling;
mod http2_uploads;
mod isolation;
mod memory;
mod metrics;
mod peers;
mod process;
mod random;
mod reload;
mod report;
mod rules;
mod same_decision;
mod smuggling;
