#!/usr/bin/env bash
# Whether the contract breaks what the last release speaks (proto/buf.yaml says by which rules), and
# whether buf would notice if it did. `contract.sh release` makes today's contract the released one.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
wanted=$(sed -n 's/^buf-bin==\([0-9.]*\).*/\1/p' "$here/requirements-buf.txt")

# One on PATH if its version is right, else the pinned wheel's in .venv.
buf=$(command -v buf || true)
if [ -z "$buf" ] || [ "$("$buf" --version)" != "$wanted" ]; then
    buf="$root/.venv/bin/buf"
    if ! [ -x "$buf" ] || [ "$("$buf" --version)" != "$wanted" ]; then
        "$here/install.sh"
        "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --require-hashes --no-deps -r "$here/requirements-buf.txt"
    fi
fi

cd "$root/proto"
if [ "${1:-}" = release ]; then
    "$buf" build . --as-file-descriptor-set -o released.binpb
    exit
fi
"$buf" breaking . --against released.binpb

# A field of another number, a field of another type, a field that is gone: each must be refused.
sample=$(mktemp -d)
trap 'rm -rf "$sample"' EXIT
spoil() {
    rm -rf "$sample/proto"
    mkdir "$sample/proto"
    cp -r buf.yaml imp "$sample/proto"
    local file="$sample/proto/imp/config/v1/config.proto"
    sed -i "$1" "$file"
    if cmp -s "$file" imp/config/v1/config.proto; then
        echo "contract.sh: '$1' spoils nothing any more; write another sample" >&2
        exit 1
    fi
    if (cd "$sample/proto" && "$buf" breaking . --against "$root/proto/released.binpb") >/dev/null 2>&1; then
        echo "contract.sh: buf accepts '$1'" >&2
        exit 1
    fi
}
spoil 's/^  bytes key_sha256 = 5;/  bytes key_sha256 = 50;/'
spoil 's/^  bytes key_sha256 = 5;/  int64 key_sha256 = 5;/'
spoil '/^  bytes key_sha256 = 5;/d'
echo "the contract breaks nothing of the last release"
