//! What a pod asks over HTTP: who its peers are, and who leads.

pub mod command;
pub mod elect;
pub mod endpoints;
