//! Exported files in the programs that they are for: these accept the files, route requests to the right endpoints, and follow
//! changes without a failed request.

mod checkers;
mod envoy;
#[path = "../../src/backend/fixture.rs"]
mod fixture;
mod haproxy;
mod nginx;
mod prometheus;
mod shop;
mod traefik;
