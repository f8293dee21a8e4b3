//! `--service` against a real control plane: what the pods receive, with the rights of the shipped Role and no more.

pub(crate) mod bed;
mod changes;
mod contexts;
mod gone;
mod in_cluster;
mod load;
mod members;
mod outages;
mod pods;
mod protocols;
mod reload;
mod rights;
mod services;
