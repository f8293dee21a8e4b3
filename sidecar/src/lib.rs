//! HTTP APIs for pods: who their peers are, and who leads.

pub mod command;
pub mod elect;
pub mod endpoints;
