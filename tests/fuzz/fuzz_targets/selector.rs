//! Explores [`enforcer_tests::fuzz::selector`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::selector(bytes));
