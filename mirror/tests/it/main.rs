//! Two real control planes, one of them with its controllers: a mirror between them.

mod basics;
mod bed;
mod guard;
mod leading;
mod lifecycle;
mod merge;
mod outages;
mod ownership;
mod rights;
mod walk;
mod writes;
