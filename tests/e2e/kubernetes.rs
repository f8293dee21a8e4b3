//! `--service` against a real control plane: the requests that pods receive, with only the rights of the shipped Role.

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
mod scale;
mod services;
