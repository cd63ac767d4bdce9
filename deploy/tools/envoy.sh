#!/usr/bin/env bash
# Prints the path of an Envoy 1.40: the one on PATH if its version is right, else the one in .venv.
# IMP_ENVOY names another one, of any version (matrix.sh).
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)

is_right() {
    # Not through a pipe: a reader that has seen enough would make the version's writer fail.
    [[ $("$1" --version 2>/dev/null) == */1.40.* ]]
}

if [ -n "${IMP_ENVOY:-}" ]; then
    [ -x "$IMP_ENVOY" ] || { echo "envoy.sh: IMP_ENVOY is no program: $IMP_ENVOY" >&2; exit 1; }
    echo "$IMP_ENVOY"
    exit 0
fi
on_path=$(command -v envoy || true)
if [ -n "$on_path" ] && is_right "$on_path"; then
    echo "$on_path"
    exit 0
fi
for binary in "$root"/.venv/lib*/python3*/site-packages/envoy/_bin/envoy; do
    [ -f "$binary" ] || continue
    [ -x "$binary" ] || chmod +x "$binary"
    is_right "$binary" || continue
    echo "$binary"
    exit 0
done
echo "envoy.sh: no Envoy 1.40 here; run deploy/tools/install.sh" >&2
exit 1
