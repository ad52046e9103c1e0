//! Answers of backends.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests_it::fuzzing::upstream_answer(data));
