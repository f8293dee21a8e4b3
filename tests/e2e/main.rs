//! End-to-end tests: the real binary, real sockets, real signals, real files.

mod admin;
mod broadcast;
mod check;
mod demo;
mod deploy;
mod dns;
mod drain;
mod file;
mod kubernetes;
mod process;
mod reload;
