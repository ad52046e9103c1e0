//! The header that a balancer sends before the bytes of its client.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests_it::fuzzing::proxy_protocol(data));
