#!/usr/bin/env bash
# Builds a release: both programs for every glibc from 2.28 on, and what `make module` has built, in one tarball.
# IMP_MACHINE=aarch64 builds it for another machine than this one.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
machine=${IMP_MACHINE:-$(uname -m)}
cargo_home=${CARGO_HOME:-$HOME/.cargo}
cd "$root"
target="$machine-unknown-linux-gnu"
RUSTFLAGS="--remap-path-prefix=$root=imp --remap-path-prefix=$cargo_home=cargo" \
    CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_PROFILE_RELEASE_DEBUG=false \
    PATH="$root/.venv/bin:$PATH" cargo zigbuild --locked --release --bin imp-agent --bin imp-control \
    -p imp-agent -p imp-control --target "$target.2.28" --target-dir target/module
# The module as module.sh has checked it.
built="target/module/$target/release"
hash=$(sha256sum "$built/libimp_module.so" | cut -d' ' -f1)
python3 deploy/tools/tarball.py --machine "$machine" --binaries "$built" --module "target/module/libimp-$hash.so"
