//! Explores [`enforcer_tests::fuzz::audit_index`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::audit_index(bytes));
