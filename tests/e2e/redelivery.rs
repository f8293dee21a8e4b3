//! Redelivery: missed requests reach an endpoint later, whatever happens to the process in between.

mod bed;
mod disk;
mod formats;
mod jobs;
mod process;
mod reload;
mod settings;
