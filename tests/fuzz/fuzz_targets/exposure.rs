//! Explores [`enforcer_tests::fuzz::exposure`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::exposure(bytes));
