//! `fanfare endpoints` as the pod beside it sees it.

pub(crate) mod bed;
mod defects;
mod deliveries;
mod hints;
mod original;
mod shared;
