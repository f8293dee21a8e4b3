//! Rules that say who may: what is shown of one is read as the same one.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::allow_rule(input));
