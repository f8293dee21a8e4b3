//! TLS over real sockets: what listeners show, whom they take, what connections to endpoints trust, what is said when it fails.

#[path = "tls/bed.rs"]
mod bed;
#[path = "tls/client_side.rs"]
mod client_side;
#[path = "tls/endpoint_side.rs"]
mod endpoint_side;
#[path = "tls/listener.rs"]
mod listener;
#[path = "tls/renewal.rs"]
mod renewal;
