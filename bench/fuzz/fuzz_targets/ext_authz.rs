#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| imp_bench::fuzz::run("ext_authz", bytes));
