//! Nothing: see `tests/files.rs`.
