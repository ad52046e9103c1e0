//! Usage in answers and events, by every reader.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests_it::fuzzing::usage(data));
