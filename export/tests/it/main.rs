//! Sinks, pipelines and bridges on real stores: S3 in process, MinIO, files, ConfigMaps on a real API server, an HTTP server.

mod bed;
mod bridge;
mod faults;
mod front;
mod identity;
mod killed;
mod pipeline;
mod served;
mod store;
mod suite;
mod web;
