"""`make tarball`: both programs and the module inside Envoy, in one file.

The same files make the same bytes: names are sorted, times and owners are fixed. Python's standard
library only.
"""

import argparse
import gzip
import hashlib
import io
import os
import platform
import re
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", type=Path, required=True, help="the folder of imp-agent and imp-control")
    parser.add_argument("--module", type=Path, required=True, help="the module, under any name")
    parser.add_argument("--output", type=Path, default=ROOT / "target", help="the folder of the tarball")
    parser.add_argument("--machine", default=platform.machine(), help="what they run on; this machine's kind if not given")
    parser.add_argument("--level", type=int, default=9, choices=range(1, 10), help="how hard to compress")
    return parser.parse_args()


def version():
    return re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]


def changed_at():
    """When the sources were last changed, not when they were built (reproducible-builds.org)."""
    if "SOURCE_DATE_EPOCH" in os.environ:
        return int(os.environ["SOURCE_DATE_EPOCH"])
    command = ["git", "-C", ROOT, "log", "-1", "--format=%ct"]
    asked = subprocess.run(command, capture_output=True, text=True)
    return int(asked.stdout) if asked.returncode == 0 else 0


def contents(binaries, module):
    """Name, bytes and mode of each file. The agent finds the module beside itself."""
    library = module.read_bytes()
    named = f"libimp-{hashlib.sha256(library).hexdigest()}.so"
    files = [(f"bin/{name}", (binaries / name).read_bytes(), 0o755) for name in ("imp-agent", "imp-control")]
    files.append((f"bin/{named}", library, 0o755))
    files += [(name, (ROOT / name).read_bytes(), 0o644) for name in ("LICENSE", "README.md")]
    return sorted(files)


def pack(files, folder, changed, level):
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=packed, compresslevel=level, mtime=changed) as out:
        with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for name, content, mode in files:
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mode, entry.mtime = len(content), mode, changed
                tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def main():
    options = arguments()
    folder = f"imp-gateway-{version()}-linux-{options.machine}"
    try:
        files = contents(options.binaries, options.module)
    except OSError as error:
        print(f"tarball: {error}", file=sys.stderr)
        return 1
    content = pack(files, folder, changed_at(), options.level)
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / f"{folder}.tar.gz"
    path.write_bytes(content)
    print(path)
    print(f"sha256: {hashlib.sha256(content).hexdigest()}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
