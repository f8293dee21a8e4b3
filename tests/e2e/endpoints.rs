//! `fanfare endpoints` as the pod beside it sees it.

mod bed;
mod defects;
mod deliveries;
mod original;
mod shared;
