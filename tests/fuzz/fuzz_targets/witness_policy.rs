//! Explores [`enforcer_tests::fuzz::witness_policy`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::witness_policy(bytes));
