//! A token of a caller, with the keys of its issuer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests_it::fuzzing::caller_token(data));
