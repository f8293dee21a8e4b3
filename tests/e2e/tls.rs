//! TLS, PROXY headers and client certificates with the binary: what clients and endpoints get, and what is said where something is wrong.

mod bed;
mod callers;
mod endpoints;
mod files;
mod listener;
mod proxy_protocol;
mod renewal;
