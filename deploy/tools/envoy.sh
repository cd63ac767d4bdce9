#!/usr/bin/env bash
# Prints the path of an Envoy 1.40: the one on PATH if its version is right, else the one in .venv.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)

is_right() {
    # Not through a pipe: a reader that has seen enough would make the version's writer fail.
    [[ $("$1" --version 2>/dev/null) == */1.40.* ]]
}

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
