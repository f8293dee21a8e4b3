//! Headers of the PROXY protocol: bounded, and what was told of the front of a connection stays true when more comes.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::http2_head(input));
