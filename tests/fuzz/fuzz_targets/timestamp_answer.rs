//! Explores [`enforcer_tests::fuzz::timestamp_answer`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::timestamp_answer(bytes));
