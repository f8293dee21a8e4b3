//! What an endpoint sends over HTTP/2: however it is cut, it means the same, and what goes out is whole frames.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::http2_responses(input));
