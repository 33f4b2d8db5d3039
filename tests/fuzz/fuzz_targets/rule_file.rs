//! Explores [`enforcer_tests::fuzz::rule_file`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::rule_file(bytes));
