#!/usr/bin/env bash
# Builds the module inside Envoy (agent/module) as it is deployed: stripped, for every glibc from 2.28
# on, without libgcc_s, which Envoy's images lack. Puts it under the name of its content into
# target/module and prints its path. `module.sh check FILE` only checks a file.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
glibc=2.28
most=3000000

# What a file must be: the first that it is not ends this.
check() {
    local file=$1 bytes needed newest exported
    bytes=$(stat -c %s "$file")
    [ "$bytes" -lt "$most" ] || { echo "module.sh: $bytes bytes, at most $most" >&2; return 1; }
    needed=$(readelf --dynamic --wide "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' \
        | grep -Ev '^(libc\.so\.6|libpthread\.so\.0|libdl\.so\.2|ld-linux-[a-z0-9-]*\.so\.[0-9])$' || true)
    [ -z "$needed" ] || { echo "module.sh: needs" $needed >&2; return 1; }
    newest=$(readelf --version-info --wide "$file" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -Vu | tail -1)
    [ "$(printf '%s\n' "$newest" "$glibc" | sort -V | tail -1)" = "$glibc" ] \
        || { echo "module.sh: needs glibc $newest" >&2; return 1; }
    exported=$(readelf --dyn-syms --wide "$file" | awk '$5 == "GLOBAL" && $7 != "UND" { print $8 }' \
        | grep -Ev '^(envoy_dynamic_module_on_[a-z_]*|IMP_MODULE_SAYS)$' || true)
    [ -z "$exported" ] || { echo "module.sh: exports" $exported >&2; return 1; }
}

if [ "${1:-}" = check ]; then
    check "$2"
    exit
fi

python="$root/.venv/bin/python"
[ -x "$python" ] || "$here/install.sh"
"$python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
    -r "$here/requirements-module.txt"

machine=$(uname -m)
cargo_home=${CARGO_HOME:-$HOME/.cargo}
cd "$root"
# Paths of this machine do not belong into the file: the same sources make the same file.
RUSTFLAGS="--remap-path-prefix=$root=imp --remap-path-prefix=$cargo_home=cargo" \
    CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_PROFILE_RELEASE_DEBUG=false \
    PATH="$root/.venv/bin:$PATH" cargo zigbuild --locked --release --package imp-module --lib \
    --target "$machine-unknown-linux-gnu.$glibc" --target-dir target/module
built="target/module/$machine-unknown-linux-gnu/release/libimp_module.so"
check "$built"
named="target/module/libimp-$(sha256sum "$built" | cut -d' ' -f1).so"
install -m 555 "$built" "$named"
echo "$root/$named"
