//! What callers decide about one request: it reaches no endpoint and takes no time that it may not.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::control(input));
