//! Explores [`enforcer_tests::fuzz::admin_call`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::admin_call(bytes));
