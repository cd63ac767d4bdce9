#!/bin/sh
# Builds the images of agent and control plane from a tarball: build.sh TARBALL BASE@sha256:.. BUILDER@sha256:..
set -eu

here=$(cd "$(dirname "$0")" && pwd)
fail() { echo "build.sh: $1" >&2; exit 1; }

[ $# -eq 3 ] || fail "give the tarball, the base image and the image that unpacks"
tarball=$1
[ -f "$tarball" ] || fail "$tarball is missing (make tarball builds it)"
for image in "$2" "$3"; do
    expr "$image" : '.*@sha256:[0-9a-f]\{64\}$' >/dev/null || fail "$image is not pinned by digest"
done
engine=${ENGINE:-$(command -v podman || command -v docker || true)}
[ -n "$engine" ] || fail "neither podman nor docker is here"
name=$(basename "$tarball")
version=$(expr "$name" : 'imp-gateway-\(.*\)-linux-') || fail "$name is not a tarball of make tarball"
for program in agent control; do
    "$engine" build --file "$here/Containerfile.$program" --tag "imp-$program:$version" \
        --build-arg "BASE=$2" --build-arg "BUILDER=$3" --build-arg "TARBALL=$name" "$(dirname "$tarball")"
done
