//! The lines of batches, in any cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests_it::fuzzing::batch_lines(data));
