//! Explores [`enforcer_tests::fuzz::header_set`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::header_set(bytes));
