//! Explores [`enforcer_tests::fuzz::cosignature`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::cosignature(bytes));
