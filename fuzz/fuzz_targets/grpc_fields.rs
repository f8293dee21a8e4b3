//! Fields of gRPC: deadlines never become longer, and every status is one that is known.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::grpc_fields(input));
