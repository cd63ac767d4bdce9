#!/usr/bin/env bash
# Runs the module's unit tests under Miri, which finds what is undefined in its `unsafe`: the hooks, as Envoy's side of the ABI
# (mock.rs) calls them. Not those of mapped files, which Miri does not have. Nightly Rust. It takes
# a quarter of an hour, most of it to compile what the tests need.
set -euo pipefail

rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
rustup component add miri rust-src --toolchain nightly
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
MIRIFLAGS="-Zmiri-disable-isolation" cargo +nightly miri test --locked -p imp-module --lib --target-dir target/miri -- \
    --skip counters:: "$@"
