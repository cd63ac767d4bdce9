#!/usr/bin/env python3
"""Writes agent/translate/tests/it/gateway_api/schemas/published.json: the schemas of the CRDs that rendered objects are checked against.

    schemas.py

Takes them as they were published: Gateway API, both channels of each version, and Envoy Gateway, from their Go modules.
Left out are descriptions, `status` and former versions of kinds; what occurs more than once is written once and referred to.
Needs Go and PyYAML.
"""

import json
import os
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import yaml

# The last patch release of each minor version that controllers of a class had a conformance report for.
GATEWAY_API = ["1.2.1", "1.3.0", "1.4.1", "1.5.1", "1.6.1"]
ENVOY_GATEWAY = "1.9.1"
FILE = Path(__file__).resolve().parents[2] / "agent/translate/tests/it/gateway_api/schemas/published.json"
# What is shorter is not worth a reference.
SHORTEST = 160


def module(name):
    """The folder of a Go module."""
    settings = {**os.environ, "GOFLAGS": "-modcacherw"}
    with tempfile.TemporaryDirectory() as nowhere:
        done = subprocess.run(
            ["go", "mod", "download", "-json", name], cwd=nowhere, env=settings, check=True, stdout=subprocess.PIPE
        )
    return Path(json.loads(done.stdout)["Dir"])


def plain(schema):
    """A schema without what only people read."""
    if isinstance(schema, list):
        return [plain(item) for item in schema]
    if isinstance(schema, dict):
        described = isinstance(schema.get("description"), str)
        return {key: plain(item) for key, item in schema.items() if not (described and key == "description")}
    return schema


def kinds(files):
    """Of each kind its group, plural, and the schema of its newest version that is served."""
    found = {}
    for file in sorted(files):
        crd = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
        spec = crd["spec"]
        version = next(version for version in spec["versions"] if version["served"])
        schema = plain(version["schema"]["openAPIV3Schema"])
        schema["properties"].pop("status", None)
        found[spec["names"]["kind"]] = {
            "group": spec["group"],
            "version": version["name"],
            "plural": spec["names"]["plural"],
            "schema": schema,
        }
    return found


def compact(json_value):
    return json.dumps(json_value, separators=(",", ":"), sort_keys=True)


def shared(published):
    """Subtrees that occur more than once become `{"$": n}`, the place in a list of them."""
    counts = Counter()

    def count(tree):
        if isinstance(tree, dict) and len(text := compact(tree)) >= SHORTEST:
            counts[text] += 1
            if counts[text] > 1:
                return
        for item in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else []:
            count(item)

    count(published)
    places, definitions = {}, []

    def refer(tree):
        if isinstance(tree, list):
            return [refer(item) for item in tree]
        if not isinstance(tree, dict):
            return tree
        text = compact(tree)
        if counts[text] < 2:
            return {key: refer(item) for key, item in tree.items()}
        if text not in places:
            inner = {key: refer(item) for key, item in tree.items()}
            places[text] = len(definitions)
            definitions.append(inner)
        return {"$": places[text]}

    return refer(published), definitions


def main():
    published = {}
    for version in GATEWAY_API:
        crds = module(f"sigs.k8s.io/gateway-api@v{version}") / "config/crd"
        for channel in ["standard", "experimental"]:
            of = (crds / channel).glob("gateway.networking.k8s.io_*.yaml")
            wanted = ["_gateways.yaml", "_httproutes.yaml", "_backendtlspolicies.yaml"]
            published[f"gateway-api {version} {channel}"] = kinds(
                file for file in of if file.name.endswith(tuple(wanted))
            )
    crds = module(f"github.com/envoyproxy/gateway@v{ENVOY_GATEWAY}") / "charts/gateway-helm/charts/crds/crds/generated"
    written = ["backends", "securitypolicies", "backendtrafficpolicies", "clienttrafficpolicies", "httproutefilters"]
    published[f"envoy-gateway {ENVOY_GATEWAY}"] = kinds(crds / f"gateway.envoyproxy.io_{name}.yaml" for name in written)
    sets, definitions = shared(published)
    FILE.parent.mkdir(exist_ok=True)
    lines = ",\n".join(compact(definition) for definition in definitions)
    of_sets = ",\n".join(f"{compact(name)}:{compact(of)}" for name, of in sets.items())
    FILE.write_text(f'{{"definitions":[\n{lines}\n],"sets":{{\n{of_sets}\n}}}}\n')


main()
