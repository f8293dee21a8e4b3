//! The head of a leg is a strict head, framed as the client's, without what must stop at the proxy.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::leg_head(input));
