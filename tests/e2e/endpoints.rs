//! `fanfare endpoints` as another container of its pod uses it.

pub(crate) mod bed;
mod defects;
mod deliveries;
mod hints;
mod original;
mod shared;
