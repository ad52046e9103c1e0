//! Compressed answers of backends.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests_it::fuzzing::coding(data));
