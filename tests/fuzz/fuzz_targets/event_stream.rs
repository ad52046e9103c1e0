//! Streams of backends, in any cut.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests_it::fuzzing::event_stream(data));
