//! Access control: identities, the tokens that prove them, the rules that name them, request rates and counts of clients.
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
//! - [`tokens`]: the token file, which is read again when it changes
//! - [`service_accounts`]: tokens of Kubernetes service accounts, verified with the API server's keys, which arrive as a watched value
//! - [`authenticator`]: authenticates the sender of a request
//! - [`identity`], [`san`]: the identities of callers
//! - [`by`], [`decision`]: the callers that a rule allows, and the decision of all rules together (pure)
//! - [`rate`]: request rates of callers; [`token_bucket`] counts, [`network`] says which addresses are one client
//! - [`sources`]: the state that lives as long as the process: token files, keys, counters
//! - [`metrics`]: the names of the metrics
//!
//! Decisions are pure. A request never waits for keys or files, which tasks of their own read.

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
