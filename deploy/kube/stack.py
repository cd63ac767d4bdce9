#!/usr/bin/env python3
"""A Kubernetes API server and Envoy Gateway for tests, without nodes: etcd, kube-apiserver, envoy-gateway.

    stack.py build           builds the three from their Go modules, once (ten minutes, 1.6 GB while it builds)
    stack.py ready           says whether they are built and `run` can be used here
    stack.py run COMMAND..   starts them, runs the command with the variables below, stops them

    stack.py build former, stack.py run former COMMAND..
                             the same with the Envoy Gateway before this one; `stack.py upgrade` inside replaces it

Programs and CRDs are kept in IMP_KUBE_CACHE [~/.cache/imp-gateway/kube-<versions>]. `run` makes user, network and
mount namespaces of its own: no root, no port and no file of the machine is touched. What the command sees:

    KUBECONFIG       of an administrator
    IMP_KUBECONFIG   of an agent, which may do what role.yaml says, and gateway-api-role.yaml in `edge`
    IMP_KUBE_DIR     the folder of logs and pids
    IMP_KUBE_ADDRESS an address for backends: the API refuses loopback
    IMP_TEST_KUBE, IMP_TEST_ADDRESS  the same folder and address, for the agent's tests
    IMP_KUBE_STACK   this script: `stack.py stop NAME` and `stack.py start NAME` (apiserver, eg) work inside

Python's standard library, openssl and, to build, Go.
"""

import base64
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

# Before the next import.
sys.dont_write_bytecode = True

from programs import CACHE, ENVOY_GATEWAY, FORMER, Trouble, build, build_former, is_built, program, say

SYSTEM = "envoy-gateway-system"
CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
# For tests of delivery by Gateway API.
CLASS = "eg"
EDGE = "edge"
ADDRESS = "10.77.0.1"
NAMESPACES = ["unshare", "-rnm", "--propagation", "private"]
SERVER = "https://127.0.0.1:6443"


# Requests.


class Api:
    """The API server as an administrator."""

    def __init__(self, pki):
        self.context = ssl.create_default_context(cafile=pki / "ca.crt")
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE  # its own certificate is made at its start
        self.context.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def call(self, method, path, body=None, kind="application/json"):
        request = urllib.request.Request(SERVER + path, data=body, method=method, headers={"Content-Type": kind})
        with urllib.request.urlopen(request, context=self.context, timeout=20) as answer:
            return answer.read()

    def is_ready(self):
        try:
            return self.call("GET", "/readyz") == b"ok"
        except OSError:
            return False

    def apply(self, path, text):
        body = text if isinstance(text, bytes) else text.encode()
        self.call("PATCH", f"{path}?fieldManager=stack&force=true", body, "application/apply-patch+yaml")

    def secret(self, name):
        found = json.loads(self.call("GET", f"/api/v1/namespaces/{SYSTEM}/secrets/{name}"))
        return {key: base64.b64decode(value) for key, value in found["data"].items()}


def wait_for(what, ready, process=None, limit=60):
    deadline = time.monotonic() + limit
    while not ready():
        if process is not None and process.poll() is not None:
            raise Trouble(f"{what}: it ended with {process.returncode}; the logs are in {folder()}")
        if time.monotonic() > deadline:
            raise Trouble(f"{what}: not after {limit} s; the logs are in {folder()}")
        time.sleep(0.05)


# The processes, each with a file of its pid.


def folder():
    return Path(os.environ["IMP_KUBE_DIR"])


def spawn(name, command, environment=None):
    with open(folder() / f"{name}.log", "ab") as log:
        child = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    (folder() / f"{name}.pid").write_text(str(child.pid))
    return child


def stop(name):
    file = folder() / f"{name}.pid"
    if not file.is_file():
        return
    pid = int(file.read_text())
    file.unlink()
    for sign in [signal.SIGTERM, signal.SIGKILL]:
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            return
        for _ in range(60):
            if not is_running(pid):
                return
            time.sleep(0.05)


def is_running(pid):
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    try:
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def start(name):
    return {"etcd": start_etcd, "apiserver": start_apiserver, "eg": start_envoy_gateway}[name]()


def start_etcd():
    urls = "http://127.0.0.1:2379"
    command = [CACHE / "bin/etcd", "--data-dir", folder() / "etcd", "--listen-client-urls", urls]
    command += ["--advertise-client-urls", urls, "--listen-peer-urls", "http://127.0.0.1:0"]
    return spawn("etcd", [*command, "--unsafe-no-fsync", "--log-level", "error"])


def start_apiserver():
    pki = folder() / "pki"
    flags = {
        "etcd-servers": "http://127.0.0.1:2379",
        "cert-dir": folder() / "apiserver",
        "secure-port": 6443,
        "bind-address": "127.0.0.1",
        "advertise-address": "127.0.0.1",
        "endpoint-reconciler-type": "none",
        "service-cluster-ip-range": "10.96.0.0/16",
        "authorization-mode": "RBAC",
        "disable-admission-plugins": "ServiceAccount",
        "service-account-issuer": SERVER + "/",
        "service-account-key-file": pki / "sa.key",
        "service-account-signing-key-file": pki / "sa.key",
        "client-ca-file": pki / "ca.crt",
    }
    child = spawn("apiserver", [CACHE / "bin/kube-apiserver", *(f"--{name}={value}" for name, value in flags.items())])
    api = Api(pki)
    wait_for("kube-apiserver", api.is_ready, child)
    return child


def start_envoy_gateway():
    # It reads /certs, so it gets a root of its own that has one.
    script = """
        set -e; root=$1; mount --make-rprivate /; mount -t tmpfs none "$root"
        for part in /*; do
            if [ -L "$part" ]; then cp -P "$part" "$root$part"
            elif [ -d "$part" ] && [ "$part" != /certs ]; then mkdir "$root$part"; mount --rbind "$part" "$root$part"; fi
        done
        mkdir -p "$root/certs"; mount --bind "$2/eg-certs" "$root/certs"
        exec chroot "$root" "$3" server --config-path "$2/eg.yaml"
    """
    (folder() / "root").mkdir(exist_ok=True)
    log = folder() / "eg.log"
    before = log.stat().st_size if log.is_file() else 0
    command = ["unshare", "-m", "bash", "-c", script, "eg", folder() / "root", folder(), program(version())[0]]
    child = spawn("eg", command, {"KUBECONFIG": os.environ["KUBECONFIG"], "ENVOY_GATEWAY_NAMESPACE": SYSTEM})
    wait_for("envoy-gateway", lambda: b"Starting workers" in log.read_bytes()[before:], child)
    return child


# What they need.


def keys():
    pki = folder() / "pki"
    pki.mkdir()
    # An extension makes it version 3, and clients take no other.
    (pki / "client.cnf").write_text("extendedKeyUsage = clientAuth\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    steps = [
        ["req", "-x509", *curve, "-days", "30", "-subj", "/CN=test-ca", "-keyout", "ca.key", "-out", "ca.crt"],
        ["genrsa", "-out", "sa.key", "2048"],
    ]
    for user, subject in [("admin", "/O=system:masters/CN=admin"), ("agent", "/CN=imp-agent")]:
        steps.append(["req", *curve, "-subj", subject, "-keyout", f"{user}.key", "-out", f"{user}.csr"])
        signed = ["x509", "-req", "-in", f"{user}.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"]
        steps.append([*signed, "-days", "30", "-extfile", "client.cnf", "-out", f"{user}.crt"])
    for step in steps:
        subprocess.run(["openssl", *step], cwd=pki, check=True, stderr=subprocess.DEVNULL)
    for user, file in [("admin", "KUBECONFIG"), ("agent", "IMP_KUBECONFIG")]:
        named = {"client-certificate": f"{pki}/{user}.crt", "client-key": f"{pki}/{user}.key"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": SERVER, "insecure-skip-tls-verify": True}}],
            "users": [{"name": user, "user": named}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": user}}],
        }
        Path(os.environ[file]).write_text(json.dumps(config))
    return Api(pki)


def let_the_agent(api):
    """Gives the agent's user what the roles say."""
    access = "/apis/rbac.authorization.k8s.io/v1"
    subject = {"kind": "User", "name": "imp-agent", "apiGroup": "rbac.authorization.k8s.io"}
    text = (Path(__file__).parent / "gateway-api-role.yaml").read_text()
    for text in text.replace("namespace: imp-gateway\n", f"namespace: {EDGE}\n").split("\n---\n"):
        kind = next(line.split(": ")[1] for line in text.splitlines() if line.startswith("kind: "))
        if kind == "RoleBinding":
            text = text[: text.index("subjects:")] + f"subjects: [{json.dumps(subject)}]"
        api.apply(f"{access}/namespaces/{EDGE}/{kind.lower()}s/imp-gateway-api", text)
    for text in (Path(__file__).parent / "role.yaml").read_text().split("\n---\n"):
        kind = next(line.split(": ")[1] for line in text.splitlines() if line.startswith("kind: "))
        place = access if kind == "ClusterRole" else f"{access}/namespaces/{SYSTEM}"
        api.apply(f"{place}/{kind.lower()}s/imp-agent", text)
        role = {"kind": kind, "name": "imp-agent", "apiGroup": "rbac.authorization.k8s.io"}
        binding = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": f"{kind}Binding", "roleRef": role}
        binding = {**binding, "metadata": {"name": "imp-agent"}, "subjects": [subject]}
        api.apply(f"{place}/{kind.lower()}bindings/imp-agent", json.dumps(binding))


def version():
    """Which Envoy Gateway runs now."""
    return (folder() / "version").read_text()


def documents():
    """Each CRD as its name and text."""
    for file in sorted(program(version())[1].glob("*.yaml")):
        for text in file.read_text().split("\n---\n"):
            if "\nkind: CustomResourceDefinition\n" in f"\n{text}\n":
                name = next(line for line in text.splitlines() if line.startswith("  name: "))
                yield name.split(": ")[1], text


def install_definitions(api):
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    names = []
    for name, text in documents():
        api.apply(f"{definitions}/{name}", text)
        names.append(name)

    def established():
        found = json.loads(api.call("GET", definitions))["items"]
        good = [item for item in found if '"Established"' in json.dumps(item["status"])]
        return len(good) >= len(names)

    wait_for("the CRDs", established)


def install(api):
    install_definitions(api)
    for name in [SYSTEM, EDGE]:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        api.apply(f"/api/v1/namespaces/{name}", json.dumps(namespace))
    place = "/apis/gateway.networking.k8s.io/v1/gatewayclasses"
    named = {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": CLASS}}
    api.apply(f"{place}/{CLASS}", json.dumps({**named, "spec": {"controllerName": CONTROLLER}}))


def certificates(api):
    settings = {**os.environ, "ENVOY_GATEWAY_NAMESPACE": SYSTEM}
    command = [program(version())[0], "certgen", "--disable-topology-injector"]
    for _ in range(10):
        with open(folder() / "certgen.log", "ab") as log:
            if subprocess.run(command, env=settings, stdout=log, stderr=log).returncode == 0:
                break
        time.sleep(0.5)
    for name, secret in [("eg-certs", "envoy-gateway"), ("envoy-certs", "envoy")]:
        (folder() / name).mkdir(exist_ok=True)
        for file, content in api.secret(secret).items():
            (folder() / name / file).write_bytes(content)


CONFIG = {
    "apiVersion": "gateway.envoyproxy.io/v1alpha1",
    "kind": "EnvoyGateway",
    "gateway": {"controllerName": CONTROLLER},
    "provider": {
        "type": "Kubernetes",
        "kubernetes": {
            "leaderElection": {"disable": True},
            "client": {"rateLimit": {"qps": 400, "burst": 800}},
            "proxyTopologyInjector": {"disabled": True},
        },
    },
    "extensionApis": {"enableBackend": True, "enableEnvoyPatchPolicy": True},
    "logging": {"level": {"default": "info"}},
}


def upgrade():
    """Replaces the former Envoy Gateway as its chart does: the definitions first."""
    (folder() / "version").write_text(ENVOY_GATEWAY)
    install_definitions(Api(folder() / "pki"))
    stop("eg")
    start("eg")


def inside(command):
    """In the namespaces: from nothing to a ready stack, the command, and down again."""
    for step in (["ip", "link", "set", "lo", "up"], ["ip", "addr", "add", f"{ADDRESS}/32", "dev", "lo"]):
        subprocess.run(step, check=True)
    begun = time.monotonic()
    is_former = command[0] == "former"
    (folder() / "version").write_text(FORMER if is_former else ENVOY_GATEWAY)
    try:
        api = keys()
        start("etcd")
        start("apiserver")
        install(api)
        let_the_agent(api)
        certificates(api)
        (folder() / "eg.yaml").write_text(json.dumps(CONFIG))
        start("eg")
        say(f"ready after {time.monotonic() - begun:.1f} s; logs in {folder()}")
        return subprocess.run(command[is_former:]).returncode
    finally:
        for name in ["eg", "apiserver", "etcd"]:
            stop(name)


def run(command):
    if not is_built():
        raise Trouble(f"the programs are not in {CACHE}: build them with `deploy/kube/stack.py build`")
    with tempfile.TemporaryDirectory(prefix="imp-kube-", ignore_cleanup_errors=True) as work:
        settings = {
            "IMP_KUBE_DIR": work,
            "IMP_KUBE_CACHE": str(CACHE),
            "IMP_KUBE_ADDRESS": ADDRESS,
            "IMP_TEST_KUBE": work,
            "IMP_TEST_ADDRESS": ADDRESS,
            "IMP_KUBE_STACK": str(Path(__file__).resolve()),
            "KUBECONFIG": f"{work}/kubeconfig",
            "IMP_KUBECONFIG": f"{work}/kubeconfig-agent",
        }
        return subprocess.run([*NAMESPACES, sys.executable, __file__, "inside", *command], env={**os.environ, **settings})


def ready():
    if not is_built():
        raise Trouble(f"the programs are not in {CACHE}")
    if subprocess.run([*NAMESPACES, "true"], stderr=subprocess.DEVNULL).returncode != 0:
        raise Trouble("no user namespaces here")


def main(arguments):
    match arguments:
        case ["build"]:
            build()
        case ["build", "former"]:
            build()
            build_former()
        case ["ready"]:
            ready()
        case ["run", _, *_]:
            return run(arguments[1:]).returncode
        case ["inside", _, *_] if "IMP_KUBE_DIR" in os.environ:
            return inside(arguments[1:])
        case ["upgrade"] if "IMP_KUBE_DIR" in os.environ:
            upgrade()
        case ["stop", name] if "IMP_KUBE_DIR" in os.environ:
            stop(name)
        case ["start", name] if "IMP_KUBE_DIR" in os.environ:
            start(name)
        case _:
            raise Trouble("usage: stack.py build [former] | ready | run [former] COMMAND..; inside of run also: stop NAME | start NAME | upgrade")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Trouble as trouble:
        sys.exit(f"kube: {trouble}")
