//! Explores [`enforcer_tests::fuzz::request_head`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::request_head(bytes));
