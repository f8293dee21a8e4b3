//! Tests of `fanfare endpoints`, as other containers of its pod use it.

pub(crate) mod bed;
mod defects;
mod deliveries;
mod hints;
mod original;
mod shared;
