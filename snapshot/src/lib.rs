//! The shared vocabulary of the data plane and the control plane: immutable snapshots of clusters and their endpoints.
//!
//! ```text
//! sources ──Change──> Publisher ══ one swap ══> Reader ──load──> requests, exports, endpoints API
//! ```
//!
//! What a [`Snapshot`] promises: it is **whole** (never seen half-built), **immutable** (a change is a new snapshot),
//! **versioned** (equal content keeps its version and is not published again) and **ordered** (iteration and endpoint
//! order depend on content only, never on arrival).

mod assembly;
mod chunks;
mod model;
mod name;
mod place;
mod publish;
mod spoken;
mod texts;
mod version;

pub use assembly::Assembly;
pub use chunks::Chunks;
pub use model::{Cluster, Conditions, Endpoint, PodRef, ServiceRef, Snapshot};
pub use name::{ClusterName, InvalidName};
pub use place::{FoundAddress, Named, Place, Recheck};
pub use publish::{Change, Closed, Publisher, Reader, channel};
pub use spoken::{AppProtocol, Scheme, Spoken};
pub use texts::shared_text;
pub use version::{ContentHash, Version};
