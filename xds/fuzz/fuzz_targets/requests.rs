//! No requests panic the server or make it talk without end.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| imp_xds::testing::fuzz::requests(bytes));
