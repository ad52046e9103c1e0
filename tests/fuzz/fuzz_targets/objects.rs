//! Objects of users, decoded and compiled.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests_it::fuzzing::objects(data));
