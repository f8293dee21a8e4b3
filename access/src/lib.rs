//! Who may: identities, the tokens that prove them, the rules that name them, rates and counts of clients.
//!
//! ```text
//! Authorization -> bearer -> authenticator (tokens, service accounts) -> caller
//!                                                                         |
//!                        rules: by -> decision (allowed, 401, 403) <------+-> rate (429)
//! ```
//!
//! The modules in the order in which a request meets them:
//!
//! - [`clients`]: how many connections and requests each client address has
//! - [`bearer`]: the token in a request
//! - [`tokens`]: the token file, which is followed
//! - [`service_accounts`]: tokens of Kubernetes service accounts, verified with the API server's keys, which arrive as a watched value
//! - [`authenticator`]: who sent a request, by everything that a listener takes for a proof
//! - [`identity`], [`san`]: what a caller can be known by
//! - [`by`], [`decision`]: whom a rule lets in, and what all rules together say (pure)
//! - [`rate`]: how many requests a caller may send in a time; [`token_bucket`] counts them, [`network`] says which addresses are one client
//! - [`sources`]: what lasts as long as the process: files that are followed, keys, limiters
//! - [`metrics`]: what people are told
//!
//! Deciding is pure; files and clocks are read at the rim. Nothing of a request waits: keys and files are read by tasks of their own.

pub mod authenticator;
pub mod bearer;
pub mod by;
pub mod clients;
pub mod decision;
pub mod identity;
pub mod metrics;
pub mod network;
pub mod rate;
pub mod san;
pub mod service_accounts;
pub mod sources;
pub mod token_bucket;
pub mod tokens;
