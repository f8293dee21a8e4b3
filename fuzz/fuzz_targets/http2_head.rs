//! Heads of requests of HTTP/2: what is taken reaches legs of both versions as it should.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::http2_head(input));
