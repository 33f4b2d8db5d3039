//! Explores [`enforcer_tests::fuzz::witness_request`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::witness_request(bytes));
