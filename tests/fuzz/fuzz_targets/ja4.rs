//! Explores [`enforcer_tests::fuzz::ja4`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::ja4(bytes));
