//! Explores [`enforcer_tests::fuzz::route_table`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::route_table(bytes));
