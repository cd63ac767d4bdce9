//! No sequence of requests makes the server panic or send without end.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| imp_xds::testing::fuzz::requests(bytes));
