#![no_main]

use std::sync::Once;

static HOOK: Once = Once::new();

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    // The agent catches the panics of its database. libFuzzer's own hook would end the process before
    // that; a panic that nobody catches still does.
    HOOK.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    imp_bench::fuzz::run("last_known_good", bytes)
});
