//! Files of tokens: each token is known by its name, and no error shows one.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::token_file(input));
