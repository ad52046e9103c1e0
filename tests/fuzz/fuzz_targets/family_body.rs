//! Bodies of requests, by the members of every row.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests_it::fuzzing::family_body(data));
