//! End-to-end tests: the real binary, real sockets, real signals, real files.

mod access;
mod admin;
mod broadcast;
mod check;
mod cli;
mod demo;
mod deploy;
mod discover;
mod dns;
mod drain;
mod elect;
mod endpoints;
mod examples;
mod file;
mod guarantees;
mod http2;
mod kubernetes;
mod listeners;
mod mirror;
mod page;
mod process;
mod reload;
mod service_accounts;
mod start;
mod tls;
mod url;
