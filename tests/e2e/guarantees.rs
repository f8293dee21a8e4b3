//! What is promised of redelivery, on real parts: what was acknowledged reaches every endpoint, in order, whatever breaks.

mod alerts;
mod bed;
mod damage;
mod disks;
mod flapping;
mod history;
mod kills;
mod pods;
mod purges;
mod remote_write;
