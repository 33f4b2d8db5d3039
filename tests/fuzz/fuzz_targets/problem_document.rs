//! Explores [`enforcer_tests::fuzz::problem_document`].
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| enforcer_tests::fuzz::problem_document(bytes));
