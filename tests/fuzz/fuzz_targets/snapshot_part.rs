//! Parts of stored snapshots.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tests_it::fuzzing::snapshot_part(data));
