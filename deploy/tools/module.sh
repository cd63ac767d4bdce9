#!/usr/bin/env bash
# Builds the module inside Envoy (agent/module) as it is deployed: stripped, for every glibc from 2.28
# on, without libgcc_s, which Envoy's images lack. Puts it under the name of its content into
# target/module and prints its path.
# IMP_MACHINE=aarch64 builds it for another machine than this one (rustup has what that takes).
#   module.sh check FILE   only checks a file
#   module.sh twice        builds it here and in another directory: it must be the same file
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
glibc=2.28
most=3000000
machine=${IMP_MACHINE:-$(uname -m)}

fail() {
    echo "module.sh: $1" >&2
    exit 1
}

# What a file must be: the first that it is not ends this.
check() {
    local file=$1 bytes dynamic versions symbols sections needed newest exported hook
    command -v readelf >/dev/null || fail "readelf is missing; install binutils"
    [ -f "$file" ] || fail "no file: $file"
    grep -q '^ *Type: *DYN ' <<<"$(readelf --file-header --wide "$file" 2>/dev/null)" || fail "no library: $file"
    dynamic=$(readelf --dynamic --wide "$file")
    versions=$(readelf --version-info --wide "$file")
    symbols=$(readelf --dyn-syms --wide "$file")
    sections=$(readelf --section-headers --wide "$file")

    needed=$(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' <<<"$dynamic" \
        | grep -Ev '^(libc\.so\.6|libpthread\.so\.0|libdl\.so\.2|ld-linux-[a-z0-9-]*\.so\.[0-9])$' || true)
    [ -z "$needed" ] || fail "needs $(echo $needed)"
    newest=$(grep -o 'GLIBC_[0-9.]*' <<<"$versions" | sed 's/GLIBC_//' | sort -Vu | tail -1 || true)
    [ "$(printf '%s\n' "$newest" "$glibc" | sort -V | tail -1)" = "$glibc" ] || fail "needs glibc $newest"
    exported=$(awk '$5 == "GLOBAL" && $7 != "UND" { print $8 }' <<<"$symbols")
    for hook in IMP_MODULE_SAYS envoy_dynamic_module_on_program_init; do
        grep -qx "$hook" <<<"$exported" || fail "has no $hook"
    done
    exported=$(grep -Ev '^(envoy_dynamic_module_on_[a-z_]*|IMP_MODULE_SAYS)$' <<<"$exported" || true)
    [ -z "$exported" ] || fail "exports $(echo $exported)"
    ! grep -q ' \.symtab \| \.debug_' <<<"$sections" || fail "is not stripped"
    bytes=$(stat -c %s "$file")
    [ "$bytes" -lt "$most" ] || fail "$bytes bytes, at most $most"
}

# Builds the sources of a directory there. Sets $built.
build() {
    local sources=$1 cargo_home=${CARGO_HOME:-$HOME/.cargo} target="$machine-unknown-linux-gnu"
    # Paths of this machine do not belong into the file: the same sources make the same file.
    (cd "$sources" && RUSTFLAGS="--remap-path-prefix=$sources=imp --remap-path-prefix=$cargo_home=cargo" \
        CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_PROFILE_RELEASE_DEBUG=false \
        PATH="$root/.venv/bin:$PATH" cargo zigbuild --locked --release --package imp-module --lib \
        --target "$target.$glibc" --target-dir target/module)
    built="$sources/target/module/$target/release/libimp_module.so"
    check "$built"
}

hash_of() {
    sha256sum "$1" | cut -d' ' -f1
}

case "${1:-}" in
    check) check "${2:?a file}"; exit ;;
    "" | twice) ;;
    *) fail "no such word: $1" ;;
esac

python="$root/.venv/bin/python"
[ -x "$python" ] || "$here/install.sh"
"$python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
    -r "$here/requirements-module.txt"

[ "$machine" = "$(uname -m)" ] || rustup target add "$machine-unknown-linux-gnu"
build "$root"
named="target/module/libimp-$(hash_of "$built").so"
install -m 555 "$built" "$root/$named"

if [ "${1:-}" = twice ]; then
    first=$(hash_of "$built")
    other=$(mktemp -d "$root/target/module-again.XXXXXX")
    trap 'rm -rf "$other"' EXIT
    mkdir "$other/of"
    (cd "$root" && git ls-files -z --cached --others --exclude-standard \
        | xargs -0 -I{} sh -c '[ ! -f "$1" ] || cp --parents "$1" "$2"' _ {} "$other/of")
    build "$other/of"
    [ "$(hash_of "$built")" = "$first" ] || fail "built twice, it is not the same file"
    echo "module.sh: the same file in both directories" >&2
fi
echo "$root/$named"
