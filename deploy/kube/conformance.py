#!/usr/bin/env python3
"""Gateway API's conformance suite for Envoy Gateway, with the features of HTTPRoute that the agent writes.

    conformance.py build            builds the suite from its ordinary Go module into the cache of stack.py, once
    stack.py run conformance.py     runs it

The suite applies routes of its own, so it says that what the agent relies on holds; that what the agent writes is right is
said by its own tests. It expects a cluster with nodes: here pods, endpoints, and the status of Envoy Gateway's Deployments and
Services are written by this script, backends are the suite's own echo server, and each Gateway has an Envoy in a network of its own.
Python's standard library, an Envoy (`make tools`) and, to build, Go.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from programs import CACHE, GO, go
from stack import ADDRESS, CLASS, SYSTEM, Api, folder

GATEWAY_API = "1.6.1"
OWNER = "gateway.envoyproxy.io/owning-gateway-"
SUITE, ECHO = CACHE / f"bin/conformance-{GATEWAY_API}", CACHE / f"bin/echo-{GATEWAY_API}"

# What the agent's objects use, with what every implementation has. Paths are rewritten by Envoy Gateway's own filter there.
FEATURES = """Gateway ReferenceGrant HTTPRoute HTTPRouteMethodMatching HTTPRouteQueryParamMatching HTTPRouteNamedRouteRule
HTTPRouteResponseHeaderModification HTTPRouteHostRewrite HTTPRoutePathRewrite HTTPRouteCORS HTTPRouteBackendProtocolH2C""".split()
# Needs what makes endpoints of Services in a cluster.
SKIPPED = "HTTPRouteServiceTypes"

INFRA, APP, WEB = (f"gateway-conformance-{name}" for name in ["infra", "app-backend", "web-backend"])
LABELS = {INFRA: "infra", APP: "backend", WEB: "backend"}
BACKENDS = [(INFRA, f"infra-backend-v{number}") for number in [1, 2, 3]]
BACKENDS += [(APP, "app-backend-v1"), (APP, "app-backend-v2"), (WEB, "web-backend")]

TEST = """package suite

import (
	"testing"

	"sigs.k8s.io/gateway-api/conformance"
)

func TestConformance(t *testing.T) { conformance.RunConformance(t) }
"""


def build():
    if SUITE.is_file() and ECHO.is_file():
        return
    modules = "".join(f"require sigs.k8s.io/gateway-api{name} v{GATEWAY_API}\n" for name in ["", "/conformance"])
    with tempfile.TemporaryDirectory(prefix="imp-conformance-") as place:
        (Path(place) / "go.mod").write_text(f"module suite\ngo {GO}\n{modules}")
        (Path(place) / "suite_test.go").write_text(TEST)
        go(["mod", "tidy"], place)
        go(["test", "-c", "-o", SUITE, "."], place)
        go(["build", "-o", ECHO, "sigs.k8s.io/gateway-api/conformance/echo-basic"], place)


class Administrator(Api):
    """With JSON on both ways."""

    def list(self, path):
        return json.loads(self.call("GET", path))["items"]

    def put(self, path, body):
        self.apply(path, json.dumps(body))

    def merge(self, path, body):
        self.call("PATCH", path, json.dumps(body).encode(), "application/merge-patch+json")


def ports_as_they_are(api):
    """Without it Envoy Gateway has proxies listen at other ports, which a Service would lead to."""
    kind = {"apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "EnvoyProxy"}
    provider = {"type": "Kubernetes", "kubernetes": {"useListenerPortAsContainerPort": True}}
    proxy = {**kind, "metadata": {"name": "conformance", "namespace": SYSTEM}, "spec": {"provider": provider}}
    api.put(f"/apis/gateway.envoyproxy.io/v1alpha1/namespaces/{SYSTEM}/envoyproxies/conformance", proxy)
    refers = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy", "name": "conformance", "namespace": SYSTEM}
    api.merge(f"/apis/gateway.networking.k8s.io/v1/gatewayclasses/{CLASS}", {"spec": {"parametersRef": refers}})


def backend(api, namespace, name, port):
    """Starts a backend, and writes its pod and endpoints. The suite reads the name of the Deployment from the pod's."""
    pod = f"{name}-0-0"
    said = {"POD_NAME": pod, "NAMESPACE": namespace, "HTTP_PORT": str(port), "H2C_PORT": str(port + 1)}
    with open(folder() / "echo.log", "ab") as log:
        child = subprocess.Popen([ECHO], env={**os.environ, **said}, stdout=log, stderr=log)
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
    metadata = {"name": pod, "namespace": namespace}
    spec = {"containers": [{"name": "echo", "image": "echo"}]}
    api.put(path, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    ready = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    api.merge(f"{path}/status", {"status": ready})
    ports = [{"name": "", "port": port}]
    if name == "infra-backend-v1":
        h2c = {"name": "second-port", "port": port + 1, "appProtocol": "kubernetes.io/h2c"}
        ports = [{"name": "first-port", "port": port}, h2c]
    labels = {"kubernetes.io/service-name": name}
    slices = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ADDRESS], "conditions": {"ready": True}}],
        "ports": [{"protocol": "TCP", **it} for it in ports],
    }
    api.put(f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices/{pod}", slices)
    return child


def bootstrap(address):
    """As Envoy Gateway gives its Envoys, which find it at this address."""
    file = lambda name: {"filename": str(folder() / "envoy-certs" / name)}
    ads = {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"}
    service = [{"envoy_grpc": {"cluster_name": "xds"}}]
    discovery = {"api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": service}
    tls = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "sni": "envoy-gateway",
        "common_tls_context": {
            "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [{"certificate_chain": file("tls.crt"), "private_key": file("tls.key")}],
            "validation_context": {"trusted_ca": file("ca.crt")},
        },
    }
    http = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    options = {"@type": f"type.googleapis.com/{http}", "explicit_http_config": {"http2_protocol_options": {}}}
    endpoint = {"address": {"socket_address": {"address": address, "port_value": 18000}}}
    cluster = {
        "name": "xds",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {http: options},
        "load_assignment": {"cluster_name": "xds", "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }
    dynamic = {"ads_config": discovery, "lds_config": ads, "cds_config": ads}
    return {"dynamic_resources": dynamic, "static_resources": {"clusters": [cluster]}}


class Nodes:
    """What nodes and their controllers would do for Envoy Gateway's Deployments and Services."""

    def __init__(self, api, envoy):
        self.api, self.envoy = api, envoy
        self.addresses, self.children = {}, []

    def run(self):
        while True:
            try:
                self.services()
                self.deployments()
            except OSError as error:
                print(f"conformance: {error}", file=sys.stderr, flush=True)
            time.sleep(0.2)

    def services(self):
        path = f"/api/v1/namespaces/{SYSTEM}/services"
        for service in self.api.list(path):
            labels = service["metadata"].get("labels") or {}
            if f"{OWNER}name" not in labels:
                continue
            gateway = f"{labels[f'{OWNER}namespace']}/{labels[f'{OWNER}name']}"
            if gateway not in self.addresses:
                self.addresses[gateway] = self.proxy(gateway)
            wanted = [{"ip": self.addresses[gateway], "ipMode": "VIP"}]
            if (service["status"].get("loadBalancer") or {}).get("ingress") != wanted:
                status = {"status": {"loadBalancer": {"ingress": wanted}}}
                self.api.merge(f"{path}/{service['metadata']['name']}/status", status)

    def deployments(self):
        path = f"/apis/apps/v1/namespaces/{SYSTEM}/deployments"
        counts = dict.fromkeys(["replicas", "readyReplicas", "availableReplicas", "updatedReplicas"], 1)
        for deployment in self.api.list(path):
            if not (deployment.get("status") or {}).get("availableReplicas"):
                self.api.merge(f"{path}/{deployment['metadata']['name']}/status", {"status": counts})

    def proxy(self, gateway):
        """Starts an Envoy in a network of its own, since all listen at the same ports. Returns its address."""
        number = len(self.addresses) + 1
        ours, theirs, host, guest = f"10.78.{number}.1", f"10.78.{number}.2", f"h{number}", f"e{number}"
        network = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 3600"], stdout=subprocess.PIPE)
        self.children.append(network)
        network.stdout.readline()  # it is in its network
        inside = ["nsenter", "-n", "-t", str(network.pid)]
        for step in [
            ["ip", "link", "add", host, "type", "veth", "peer", "name", guest],
            ["ip", "link", "set", guest, "netns", str(network.pid)],
            ["ip", "addr", "add", f"{ours}/24", "dev", host],
            ["ip", "link", "set", host, "up"],
            [*inside, "ip", "link", "set", "lo", "up"],
            [*inside, "ip", "addr", "add", f"{theirs}/24", "dev", guest],
            [*inside, "ip", "link", "set", guest, "up"],
            [*inside, "ip", "route", "add", "default", "via", ours],
        ]:
            subprocess.run(step, check=True)
        file = folder() / f"envoy-{number}.json"
        file.write_text(json.dumps(bootstrap(ours)))
        named = ["--service-cluster", gateway, "--service-node", f"proxy-{number}"]
        command = [*inside, self.envoy, "-c", file, *named, "--concurrency", "1", "--use-dynamic-base-id"]
        with open(folder() / "envoys.log", "ab") as log:
            self.children.append(subprocess.Popen([*command, "--log-level", "warning"], stdout=log, stderr=log))
        return theirs


def main():
    if sys.argv[1:] == ["build"]:
        return build()
    tools = Path(__file__).resolve().parents[1] / "tools"
    envoy = subprocess.run([tools / "envoy.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    api = Administrator(folder() / "pki")
    ports_as_they_are(api)
    nodes = Nodes(api, envoy)
    try:
        for namespace, label in LABELS.items():
            metadata = {"name": namespace, "labels": {"gateway-conformance": label}}
            api.put(f"/api/v1/namespaces/{namespace}", {"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
        for place, (namespace, name) in enumerate(BACKENDS):
            nodes.children.append(backend(api, namespace, name, 3000 + 10 * place))
        threading.Thread(target=nodes.run, daemon=True).start()
        flags = [f"-gateway-class={CLASS}", f"-supported-features={','.join(FEATURES)}", f"-skip-tests={SKIPPED}"]
        # Namespaces never end here: nothing collects what is in them.
        flags += ["-cleanup-base-resources=false", "-test.run=TestConformance/^HTTPRoute", "-test.timeout=10m"]
        with open(folder() / "suite.log", "w+") as log:
            done = subprocess.run([SUITE, *flags, "-test.v"], cwd=folder(), stdout=log, stderr=log)
            log.seek(0)
            lines = log.readlines()
        results = [line.strip() for line in lines if line.startswith("    --- ") and "SKIP" not in line]
        print("\n".join(results if done.returncode == 0 else [*map(str.rstrip, lines[-400:]), *results]), flush=True)
        return done.returncode
    finally:
        for child in nodes.children:
            child.kill()


sys.exit(main())
