//! Every order of events ends with the client holding what it should.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| imp_xds::testing::fuzz::interleaving(bytes));
