//! The endpoints API against a real API server: its routes, its conditions, its ways of waiting, its deliveries.

#[path = "endpoints/bed.rs"]
mod bed;
#[path = "endpoints/deliveries.rs"]
mod deliveries;
#[path = "endpoints/routes.rs"]
mod routes;
#[path = "endpoints/waiting.rs"]
mod waiting;
