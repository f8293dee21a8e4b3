//! Response heads: whatever comes in, nothing panics, and how it is cut makes no difference.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::response_head(input));
