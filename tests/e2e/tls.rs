//! TLS, PROXY headers and client certificates with the binary, including error messages.

mod bed;
mod callers;
mod endpoints;
mod files;
mod listener;
mod proxy_protocol;
mod renewal;
