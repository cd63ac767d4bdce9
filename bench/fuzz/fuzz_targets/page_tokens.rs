#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| imp_bench::fuzz::run("page_tokens", bytes));
