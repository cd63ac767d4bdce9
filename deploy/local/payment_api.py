"""The PRD's Payment API, made through the public REST API as an operator would."""

import json
import urllib.error
import urllib.request

from processes import Trouble

# One call a second on average, so that the plan is soon used up, and soon usable again.
PLAN_LIMIT = 60


class Rest:
    def __init__(self, base, token):
        self.base = base
        self.token = token

    def send(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data=data, method=method)
        request.add_header("authorization", f"Bearer {self.token}")
        if data is not None:
            request.add_header("content-type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            words = error.read().decode("utf-8", "replace")
            raise Trouble(f"{method} {path}: {error.code} {words}") from None
        except (urllib.error.URLError, OSError) as error:
            raise Trouble(f"{method} {path}: {error}") from None

    def get(self, path):
        return self.send("GET", path)

    def post(self, path, body):
        return self.send("POST", path, body)


def create_cluster(rest):
    cluster = rest.post(
        "/v1/clusters",
        {"name": "kr-seoul", "region": "ap-northeast-2", "cloud_provider": "aws"},
    )
    token = rest.post(f"/v1/clusters/{cluster['id']}/registration-tokens", {"description": "demo"})
    return {"id": cluster["id"], "registration_token": token["token"]}


def service(upstream_port):
    return {
        "name": "payment-service",
        "api_version": "v1",
        "description": "Payments and refunds",
        "backends": [
            {"name": "payment-svc", "endpoints": [{"host": "127.0.0.1", "port": upstream_port}]}
        ],
        "routes": [
            {"name": "payments", "path": {"prefix": "/payments"}, "backend_id": "payment-svc"},
            {"name": "refunds", "path": {"prefix": "/refunds"}, "backend_id": "payment-svc"},
        ],
        "policies": [
            {"name": "limit", "type": "rate_limit", "config": {"requests": 1000, "per": "minute"}}
        ],
    }


def create(rest, cluster_id, upstream_port, gateway_port, say):
    tenant = rest.post("/v1/tenants", {"name": "Acme Payments", "slug": "acme"})
    own = {"tenant_id": tenant["id"]}

    def make(kind, body):
        return rest.post(f"/v1/{kind}", {**own, **body})

    api = make("api-services", service(upstream_port))
    listeners = [{"name": "http", "port": gateway_port, "protocol": "HTTP"}]
    gateway = make("gateways", {"name": "public", "gateway_class": "envoy-gateway", "listeners": listeners})
    product = make(
        "products",
        {
            "name": "Payment API",
            "product_version": "v1.0",
            "categories": ["payments", "fintech"],
            "visibility": "public",
            "api_services": [api["id"]],
        },
    )
    plan = make(
        "plans",
        {
            "product_id": product["id"],
            "name": "starter",
            "rate_limit": {"requests": PLAN_LIMIT, "per": "minute"},
            "auto_approve": True,
        },
    )
    say("tenant Acme: API service, gateway, product and plan are defined")

    # Nobody can prove this name, so an operator grants it.
    domain = make("domains", {"name": "localhost"})
    rest.post(f"/v1/domains/{domain['id']}/grant", {})
    publish = make(
        "product-publishes",
        {
            "product_id": product["id"],
            "gateway_id": gateway["id"],
            "cluster_id": cluster_id,
            "environment": "prod",
            "auth_mode": "api_key",
            "hostnames": ["localhost"],
        },
    )
    say("Payment API v1.0 is being published to kr-seoul")
    api_key = subscribe(make, product, plan)
    say("Shop Ltd has subscribed and holds a key")
    return {
        "publish_path": f"/v1/product-publishes/{publish['id']}",
        "port": gateway_port,
        "limit": PLAN_LIMIT,
        "api_key": api_key,
    }


def subscribe(make, product, plan):
    customer = make("customers", {"name": "Shop Ltd"})
    subscription = make(
        "subscriptions",
        {
            "customer_id": customer["id"],
            "product_id": product["id"],
            "environment": "prod",
            "plan_id": plan["id"],
        },
    )
    app = make("client-apps", {"customer_id": customer["id"], "name": "web shop"})
    consumer = make(
        "consumers", {"subscription_id": subscription["id"], "client_app_id": app["id"]}
    )
    return make("credentials", {"consumer_id": consumer["id"]})["api_key"]
