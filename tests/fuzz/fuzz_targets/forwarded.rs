//! Explores [`enforcer_tests::fuzz::forwarded`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::forwarded(bytes));
