"""`make test-upgrade`: two releases on one SQLite database, the former one and this one.

Each writes what it can through the REST API, and the other one is asked for all of it. What the older
release says of an object must be what the newer one says; the newer one may say more. Then it writes to it.
The former release is built once, outside of the checkout. Python's standard library only.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

sys.dont_write_bytecode = True

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy/local"))

from payment_api import Rest  # noqa: E402
from processes import Children, Ports, Trouble, is_up  # noqa: E402

# What clients of the last release have: move it on when there is a newer one.
FORMER = "ad0f1ca"
CACHE = Path(os.environ.get("IMP_CACHE", Path.home() / ".cache/imp-upgrade"))


def say(text):
    print(text, flush=True)


def built(folder):
    command = ["cargo", "build", "--locked", "-p", "imp-control", "--bin", "imp-control"]
    if subprocess.run(command, cwd=folder).returncode != 0:
        raise Trouble(f"the build in {folder} failed; see above")
    target = "target" if folder != ROOT else os.environ.get("CARGO_TARGET_DIR", "target")
    return folder / target / "debug/imp-control"


def former():
    """The program of the former release, which is made from the repository's own history."""
    folder = CACHE / FORMER
    program = folder / "target/debug/imp-control"
    if program.is_file():
        return program
    say(f"building the former release {FORMER} in {folder}; this takes minutes, once")
    folder.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(["git", "archive", FORMER], cwd=ROOT, stdout=subprocess.PIPE)
    if archive.returncode != 0:
        raise Trouble(f"the history lacks {FORMER}: fetch it (git fetch --unshallow)")
    subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
    return built(folder)


class Release:
    """One release, running on the shared database."""

    def __init__(self, program, name, data):
        self.program, self.name, self.data = program, name, data
        self.children = None
        document = subprocess.run([program, "openapi"], stdout=subprocess.PIPE, check=True)
        paths = json.loads(document.stdout)["paths"]
        self.readable = [path for path, operations in paths.items() if "get" in operations]

    def __enter__(self):
        ports = Ports(lambda _: None)
        rest, agents = ports.take("REST", 28080), ports.take("agents", 28081)
        token = self.data / "token"
        self.children = Children(self.data)
        command = [self.program, "--data-dir", self.data, "--listen", f"127.0.0.1:{rest}"]
        command += ["--agent-listen", f"127.0.0.1:{agents}", "--bootstrap-token-file", token]
        self.children.start(f"imp-control.{self.name}", command)
        base = f"http://127.0.0.1:{rest}"
        self.children.wait_for(f"the {self.name} release", lambda: is_up(base + "/readyz"))
        return Rest(base, token.read_text().strip())

    def __exit__(self, *_):
        self.children.stop()

    def log(self):
        return (self.data / f"imp-control.{self.name}.log").read_text(errors="replace").splitlines()


def expand(rest, template):
    """Every path that the template stands for, by what the lists say."""
    before, brace, rest_of_it = template.partition("{")
    if not brace:
        return [template]
    name, _, after = rest_of_it.partition("}")
    key = "revision" if name == "revision" else "id"
    items = everything(rest, before.rstrip("/"))
    return [path for item in items for path in expand(rest, f"{before}{item[key]}{after}")]


def everything(rest, path):
    answer = rest.get(path)
    if answer.get("next_page_token"):
        raise Trouble(f"{path}: more than a page; write less")
    return answer["items"]


# These are about now, or need parameters.
NOT_ASKED = ("/v1/usage", "/v1/me", "/v1/policy-types")


def answers(rest, templates):
    asked = [template for template in templates if template.startswith("/v1/")]
    asked = [template for template in asked if template not in NOT_ASKED]
    paths = [path for template in asked for path in expand(rest, template)]
    return {path: rest.get(path) for path in paths}


def differences(older, newer, at=""):
    """What the older release says otherwise; the newer one may say more."""
    if isinstance(older, dict) and isinstance(newer, dict):
        for name, value in older.items():
            if name not in newer:
                yield f"{at}/{name}: only the older release says it: {value!r}"
            else:
                yield from differences(value, newer[name], f"{at}/{name}")
    elif isinstance(older, list) and isinstance(newer, list) and len(older) == len(newer):
        for index, (one, other) in enumerate(zip(older, newer)):
            yield from differences(one, other, f"{at}/{index}")
    elif older != newer:
        yield f"{at}: {older!r} to the older release, {newer!r} to the newer one"


def compare(what, older, newer):
    found = list(differences(older, newer))
    for line in found[:20]:
        say(f"  {line}")
    if found:
        raise Trouble(f"{what}: {len(found)} differences")
    say(f"{what}: {len(older)} answers agree")


def service(name):
    """Every way to match, every policy, every word. No two of a publish take the same calls."""
    limit = {"requests": 5, "per": "second"}
    headers = {"set": [{"name": "x-a", "value": "1"}], "add": [{"name": "x-b", "value": "2"}], "remove": ["x-c"]}
    route = {"methods": ["GET"], "backends": [{"backend_id": "one", "weight": 9}, {"backend_id": "two", "weight": 1}]}
    values = [{"exact": "1"}, {"prefix": "p"}, {"regex": "a+"}, {"present": True}]
    paths = [{"exact": "a"}, {"prefix": "b"}, {"template": "c/{id}"}, {"regex": "d/.*"}]
    paths = [{kind: f"/{name}/{path}" for kind, path in choice.items()} for choice in paths]
    routes = [{"name": f"route-{index}", "path": path, **route} for index, path in enumerate(paths)]
    routes[0]["headers"] = [{"name": f"x-{index}", "value": value} for index, value in enumerate(values)]
    routes[1]["query"] = [{"name": "q", "value": {"present": False}}]
    routes[1].update(rewrite={"path": "/e", "host": "inner.example.com"}, timeout_ms=2500, priority=7)
    endpoint = {"host": "svc.example.com", "port": 9000, "weight": 3}
    policy = {"route": "route-1"}
    return {
        "name": name,
        "api_version": "v2",
        "description": "all of it",
        "backends": [
            {"name": "one", "endpoints": [endpoint], "protocol": "http2", "lb_policy": "least_request"},
            {"name": "two", "endpoints": [endpoint], "lb_policy": "random", "connect_timeout_ms": 250},
        ],
        "routes": routes,
        "policies": [
            {"name": "limit", "type": "rate_limit", "config": limit},
            {"name": "few", "type": "rate_limit", "config": {"requests": 1, "per": "hour"}, **policy},
            {"name": "up", "type": "request_headers", "config": headers},
            {"name": "down", "type": "response_headers", "config": headers},
            {"name": "who", "type": "ip_access", "config": {"allow": ["203.0.113.0/24"], "deny": ["203.0.113.7"]}},
            {"name": "pages", "type": "cors", "config": {"allow_origins": ["https://app.example.com"]}},
        ],
    }


def terms():
    limits = [
        {"name": "burst", "unit": "requests", "amount": 5, "window": "second"},
        {"name": "each", "amount": 100, "window": "day", "on_exceed": "overage", "scope": "consumer"},
    ]
    return {"rate_limit": {"requests": 60, "per": "minute"}, "quota": {"requests": 1000, "per": "month"}, "limits": limits}


def write(rest, slug):
    """Objects of every kind in every state that a caller can bring about without agents."""
    tenant = rest.post("/v1/tenants", {"name": slug, "slug": slug})["id"]
    cluster = rest.post("/v1/clusters", {"name": slug, "region": "r", "labels": {"a": "b"}})["id"]
    rest.post(f"/v1/clusters/{cluster}/registration-tokens", {"description": "first"})

    def make(kind, **body):
        return rest.post(f"/v1/{kind}", {"tenant_id": tenant, **body})["id"]

    def step(kind, which, action, **body):
        return rest.send("POST", f"/v1/{kind}/{which}/{action}", body or None)

    make("api-tokens", name="all", roles=["org-admin", "api-developer", "gateway-owner"])
    apis = [make("api-services", **service(name)) for name in ("payments", "old", "older")]
    listeners = [{"name": "http", "port": 8080, "protocol": "HTTP"}]
    gateway = make("gateways", name="public", listeners=listeners)
    granted = make("domains", name=f"{slug}.example.com")
    step("domains", granted, "grant")
    make("domains", name=f"{slug}-pending.example.com")
    products = {}
    for state, steps in {"active": [], "deprecated": ["deprecate"], "closed": ["deprecate", "close"]}.items():
        products[state] = make("products", name=state, visibility="public", api_services=[apis[0]])
        for action in steps:
            step("products", products[state], action)
    product = products["active"]
    plan = make("plans", product_id=product, name="gold", auto_approve=True, **terms())
    small = make("plans", product_id=product, name="small", auto_approve=True, quota={"requests": 1, "per": "day"})
    asked = make("plans", product_id=product, name="asked", **terms())
    rest.send("PATCH", f"/v1/plans/{plan}", {"description": "another version"})
    place = {"product_id": product, "gateway_id": gateway, "cluster_id": cluster}
    publishes = []
    for index, (environment, mode) in enumerate([("prod", "api_key"), ("staging", "none"), ("dev", "api_key")]):
        hostnames = [f"h{index}.{slug}.example.com"]
        path = {"base_path": f"/v{index}", "environment": environment, "auth_mode": mode}
        publishes.append(make("product-publishes", **place, **path, hostnames=hostnames))
    passing = make("products", name="passing", api_services=apis[1:])
    path = {"base_path": "/passing", "environment": "dev", "auth_mode": "none", "hostnames": hostnames}
    passed = make("product-publishes", **{**place, "product_id": passing}, **path)
    rest.send("DELETE", f"/v1/product-publishes/{passed}")
    rest.send("DELETE", f"/v1/products/{passing}")
    for api in apis[1:]:
        step("api-services", api, "deprecate")
    step("api-services", apis[2], "retire")
    step("product-publishes", publishes[0], "redeploy")
    step("product-publishes", publishes[0], "rollback", revision=1)
    step("product-publishes", publishes[1], "suspend")
    customer = make("customers", name="Shop Ltd")
    bought = {"customer_id": customer, "product_id": product}
    active = make("subscriptions", **bought, environment="prod", plan_id=plan)
    rest.send("PATCH", f"/v1/subscriptions/{active}", {"plan_id": small})
    pinned = make("subscriptions", **bought, environment="dev", plan_id=plan, product_publish_id=publishes[2])
    step("subscriptions", pinned, "suspend", reason="unpaid")
    ended = make("subscriptions", **bought, environment="staging", plan_id=plan)
    step("subscriptions", ended, "cancel")
    make("subscriptions", **bought, environment="staging", plan_id=asked)
    app = make("client-apps", customer_id=customer, name="web shop")
    consumer = make("consumers", subscription_id=active, client_app_id=app)
    make("credentials", consumer_id=consumer, expires_at="2099-01-01T00:00:00Z")
    step("credentials", make("credentials", consumer_id=consumer), "revoke")
    return {"publish": publishes[0], "suspended": publishes[1], "service": apis[0], "gateway": gateway, "plan": plan}


def edit(rest, made, text):
    """What the other release wrote is changed."""
    for kind, which in (("api-services", "service"), ("gateways", "gateway"), ("plans", "plan")):
        rest.send("PATCH", f"/v1/{kind}/{made[which]}", {"description": text})
    rest.send("POST", f"/v1/product-publishes/{made['publish']}/redeploy")
    rest.send("POST", f"/v1/product-publishes/{made['suspended']}/resume")


def run(folder):
    old = Release(former(), "former", folder)
    new = Release(built(ROOT), "present", folder)
    both = [path for path in old.readable if path in new.readable]
    if both != old.readable:
        raise Trouble(f"gone from the API: {set(old.readable) - set(both)}")
    with old as rest:
        first = write(rest, "former")
        told = answers(rest, both)
    with new as rest:
        compare("the present release reads what the former wrote", told, answers(rest, both))
        edit(rest, first, "by the present release")
        second = write(rest, "present")
        told = answers(rest, both)
    with old as rest:
        compare("the former release reads what the present wrote", answers(rest, both), told)
        edit(rest, second, "by the former release")
        edit_again = answers(rest, both)
    with new as rest:
        compare("the present release reads what both wrote", edit_again, answers(rest, both))
    for release in (old, new):
        complaints = [line for line in release.log() if "ERROR" in line]
        if complaints:
            raise Trouble(f"the {release.name} release could not read or compile something")


def main():
    with tempfile.TemporaryDirectory(prefix="imp-upgrade-") as folder:
        try:
            run(Path(folder))
        except Trouble as trouble:
            for log in sorted(Path(folder).glob("*.log")):
                lines = log.read_text(errors="replace").splitlines()
                errors = [line for line in lines if "ERROR" in line]
                say("\n".join(f"{log.name}: {line}" for line in errors[-5:]))
            sys.exit(f"upgrade: {trouble}")


if __name__ == "__main__":
    main()
