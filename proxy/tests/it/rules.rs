//! The rules of the data plane, a file for each, a test for each clause.

mod access;
mod changes;
mod client_faults;
mod client_tls;
mod control;
mod divergence;
mod framing;
mod held_bodies;
mod lag;
mod made_up;
mod members;
mod names;
mod paths;
mod proxy_protocol;
mod redelivery;
mod retries;
mod sending;
mod slow_clients;
mod spoken;
mod stragglers;
mod target;
mod timeouts;
mod trace_context;
mod upstream_tls;
mod waves;
mod which_answer;
