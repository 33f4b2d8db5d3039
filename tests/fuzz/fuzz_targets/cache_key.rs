//! Explores [`enforcer_tests::fuzz::cache_key`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::cache_key(bytes));
