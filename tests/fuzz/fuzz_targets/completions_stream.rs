//! Streams of completions, in any cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests_it::fuzzing::completions_stream(data));
