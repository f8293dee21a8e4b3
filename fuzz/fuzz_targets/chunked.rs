//! Chunked bodies: how the bytes are cut makes no difference, and what was decoded encodes to the same again.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::chunked(input));
