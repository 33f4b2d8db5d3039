//! Explores [`enforcer_tests::fuzz::consistency_proof`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::consistency_proof(bytes));
