#!/usr/bin/env bash
# Runs fuzzers, one after the other: deploy/tools/fuzz.sh [TARGET...], all of them when none is named.
# FUZZ_SECONDS: how long each (600). Ends with 1 at the first finding; its input is then below
# <workspace>/fuzz/artifacts, and belongs into the corpus once the fault is mended.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
version=0.13.2 seconds=${FUZZ_SECONDS:-600}

have=$(cargo fuzz --version 2>/dev/null || true)
if [ "$have" != "cargo-fuzz $version" ]; then
    cargo install cargo-fuzz --locked --version "$version"
fi
rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal

# The same versions of all crates as in the product.
for package in bench xds; do cp Cargo.lock "$package/fuzz/Cargo.lock"; done

fuzz() { # package target
    local found=target/fuzz/$2 dictionary=()
    mkdir -p "$found"
    [ -f "$1/fuzz/$2.dict" ] && dictionary=("-dict=$PWD/$1/fuzz/$2.dict")
    echo "== $2, $seconds s"
    # No sanitizer: the workspace forbids unsafe code. What is looked for is panics, broken promises,
    # inputs that take 20 s, and memory.
    (cd "$1" && cargo +nightly fuzz run --sanitizer none "$2" "$OLDPWD/$found" "fuzz/corpus/$2" -- \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 \
        -verbosity=0 "${dictionary[@]}")
}

ran=0
for package in bench xds; do
    for source in "$package"/fuzz/fuzz_targets/*.rs; do
        target=$(basename "$source" .rs)
        if [ $# -eq 0 ] || [[ " $* " == *" $target "* ]]; then
            fuzz "$package" "$target"
            ran=$((ran + 1))
        fi
    done
done
[ "$ran" -gt 0 ] || { echo "no such target: $*"; exit 1; }
echo "$ran targets, no finding"
