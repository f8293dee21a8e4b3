//! What is exported, read by the programs that it is for: they take it, route a request to the right endpoint, and follow
//! changes without one failed request.

mod checkers;
mod envoy;
#[path = "../../src/backend/fixture.rs"]
mod fixture;
mod haproxy;
mod nginx;
mod prometheus;
mod shop;
mod traefik;
