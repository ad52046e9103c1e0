//! The ids of answers, in any cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests_it::fuzzing::answer_ids(data));
