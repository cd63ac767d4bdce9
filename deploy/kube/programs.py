"""The programs of the test stack, built from their Go modules into a cache, once: etcd, kube-apiserver, envoy-gateway."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

KUBERNETES = "1.36.3"
ETCD = "3.6.5"
ENVOY_GATEWAY = "1.9.1"
FORMER = "1.8.0"
GO = "1.26.0"

KEY = f"{KUBERNETES}-{ETCD}-{ENVOY_GATEWAY}"
CACHE = Path(os.environ.get("IMP_KUBE_CACHE") or Path.home() / f".cache/imp-gateway/kube-{KEY}")
PROGRAMS = ["kube-apiserver", "etcd", "envoy-gateway"]

# k8s.io/kubernetes requires these in its own folder; from outside each needs its published version.
STAGING = """api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider cluster-bootstrap
code-generator component-base component-helpers controller-manager cri-api cri-client cri-streaming csi-translation-lib
dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator kube-controller-manager kube-proxy
kube-scheduler kubectl kubelet metrics mount-utils pod-security-admission sample-apiserver sample-cli-plugin
sample-controller streaming""".split()


class Trouble(Exception):
    """One line for the person at the terminal."""


def say(text):
    print(f"kube: {text}", file=sys.stderr, flush=True)


def program(version):
    """The file of an Envoy Gateway, and the folder of its CRDs."""
    if version == ENVOY_GATEWAY:
        return CACHE / "bin/envoy-gateway", CACHE / "crds"
    return CACHE / f"bin/envoy-gateway-{version}", CACHE / f"crds-{version}"


def is_built():
    return all((CACHE / "bin" / name).is_file() for name in PROGRAMS) and any(CACHE.glob("crds/*.yaml"))


def go(arguments, folder, **environment):
    command = [os.environ.get("GO", "go"), *arguments]
    settings = {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath -buildvcs=false -modcacherw", **environment}
    try:
        done = subprocess.run(command, cwd=folder, env={**os.environ, **settings}, stdout=subprocess.PIPE)
    except FileNotFoundError:
        raise Trouble(f"Go {GO} or newer is needed to build the test stack (GO names it)") from None
    if done.returncode != 0:
        raise Trouble(f"{' '.join(command)} failed; see above")
    return done.stdout.decode()


def build():
    if is_built():
        return
    (CACHE / "bin").mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="imp-kube-build-"))
    # Modules and objects are of no use afterwards.
    places = {"GOPATH": str(folder / "go"), "GOCACHE": str(folder / "cache"), "GOBIN": str(CACHE / "bin")}
    if os.environ.get("IMP_KUBE_KEEP_GO"):
        places = {"GOBIN": str(CACHE / "bin")}
    try:
        for name, make in [("etcd", etcd), ("envoy-gateway", envoy_gateway), ("kube-apiserver", apiserver)]:
            if not (CACHE / "bin" / name).is_file() or name == "envoy-gateway" and not any(CACHE.glob("crds/*")):
                say(f"building {name}; with the others this takes some ten minutes, once")
                make(folder, places)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def build_former():
    file, crds = program(FORMER)
    if file.is_file() and any(crds.glob("*.yaml")):
        return
    folder = Path(tempfile.mkdtemp(prefix="imp-kube-build-"))
    places = {"GOPATH": str(folder / "go"), "GOCACHE": str(folder / "cache"), "GOBIN": str(folder / "bin")}
    try:
        say(f"building envoy-gateway {FORMER}; this takes some minutes, once")
        envoy_gateway(folder, places, FORMER)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def etcd(folder, places):
    folder = folder / "etcd"
    folder.mkdir()
    (folder / "go.mod").write_text(f"module etcdbuild\ngo {GO}\n")
    go(["get", "-tool", f"go.etcd.io/etcd/server/v3@v{ETCD}"], folder, **places)
    go(["build", "-ldflags", "-s -w", "-o", CACHE / "bin/etcd", "go.etcd.io/etcd/server/v3"], folder, **places)


def envoy_gateway(folder, places, version=ENVOY_GATEWAY):
    module = f"github.com/envoyproxy/gateway@v{version}"
    go(["install", "-ldflags", "-s -w", module.replace("@", "/cmd/envoy-gateway@")], folder, **places)
    where = json.loads(go(["mod", "download", "-json", module], folder, **places))["Dir"]
    crds = Path(where) / "charts/gateway-helm/charts/crds/crds"
    file, kept = program(version)
    kept.mkdir(exist_ok=True)
    for source in [*crds.glob("gatewayapi-crds.yaml"), *crds.glob("generated/*.yaml")]:
        (kept / source.name).write_bytes(source.read_bytes())
    made = Path(places["GOBIN"]) / "envoy-gateway"
    if made != file:
        shutil.move(made, file)


def apiserver(folder, places):
    folder = folder / "kubernetes"
    folder.mkdir()
    staging = KUBERNETES.replace("1.", "0.", 1)
    replaced = "".join(f"replace k8s.io/{name} => k8s.io/{name} v{staging}\n" for name in STAGING)
    (folder / "go.mod").write_text(f"module kubebuild\ngo {GO}\nrequire k8s.io/kubernetes v{KUBERNETES}\n{replaced}")
    package = "k8s.io/kubernetes/cmd/kube-apiserver"
    (folder / "tools.go").write_text(f'//go:build tools\n\npackage tools\n\nimport _ "{package}"\n')
    go(["mod", "tidy", "-e"], folder, **places)
    version = "gitVersion=v" + KUBERNETES
    named = f"-s -w -X k8s.io/component-base/version.{version} -X k8s.io/client-go/pkg/version.{version}"
    go(["build", "-ldflags", named, "-o", CACHE / "bin/kube-apiserver", package], folder, **places)
