#!/usr/bin/env python3
"""Runs the workspace's tests in parts, each test binary once.

All parts come from one build of the whole workspace: `cargo test -p ...` would build much of it
again, with other features. A package that stands in no part is an error.
"""

import json
import os
import subprocess
import sys
import time

# Part -> packages whose integration tests it runs; "unit" also runs every package's unit tests.
PARTS = {
    "unit": ["imp-core", "imp-enforce", "imp-grammar", "imp-kube", "imp-memory", "imp-process", "imp-proto"],
    "databases": ["imp-store", "imp-control"],
    "envoy": ["imp-xds", "imp-translate", "imp-agent", "imp-module"],
    "stack": ["imp-bench"],
}
CARGO = os.environ.get("CARGO", "cargo")


def binaries():
    """(package, its directory, whether it holds unit tests, name, path) of every test binary."""
    command = [CARGO, "test", "--workspace", "--locked", "--no-run", "--message-format=json-render-diagnostics"]
    built = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    if built.returncode:
        sys.exit(built.returncode)
    for line in built.stdout.splitlines():
        message = json.loads(line) if line.startswith("{") else {}
        if message.get("executable") and message.get("profile", {}).get("test"):
            directory = os.path.dirname(message["manifest_path"])
            package = message["package_id"].split("#")[-1].split("@")[0]
            if not package.startswith("imp-"):
                package = package_name(message["manifest_path"])
            target = message["target"]
            yield package, directory, "test" not in target["kind"], target["name"], message["executable"]


def package_name(manifest):
    with open(manifest, encoding="utf-8") as file:
        return next(line.split('"')[1] for line in file if line.startswith("name = "))


def part_of(package, is_unit):
    parts = [part for part, packages in PARTS.items() if package in packages]
    if len(parts) != 1:
        sys.exit(f"tests.py: {package} stands in {len(parts)} parts, not in one; see PARTS")
    return "unit" if is_unit else parts[0]


def run(part):
    failed = []
    for package, directory, is_unit, name, executable in binaries():
        if part_of(package, is_unit) != part:
            continue
        begun = time.monotonic()
        environment = dict(os.environ, CARGO_MANIFEST_DIR=directory, CARGO=CARGO)
        status = subprocess.run([executable, "--quiet"], cwd=directory, env=environment, check=False)
        label = f"{package} {name}"
        print(f"{time.monotonic() - begun:7.1f} s  {label}", flush=True)
        if status.returncode:
            failed.append(label)
    if part == "unit" and subprocess.run([CARGO, "test", "--workspace", "--locked", "--doc", "--quiet"], check=False).returncode:
        failed.append("examples in documentation")
    if failed:
        sys.exit(f"tests.py: failed: {', '.join(failed)}")


if len(sys.argv) != 2 or sys.argv[1] not in PARTS:
    sys.exit(f"usage: tests.py {'|'.join(PARTS)}")
run(sys.argv[1])
