//! Objects that tests and benchmarks often need, created through the public REST API with the
//! planned roles.

use anyhow::Result;
use serde_json::{Value, json};

use crate::ports;
use crate::rest::{Rest, text};
use crate::stack::Stack;

/// A tenant, a token for its people, and one gateway template.
pub struct Provider {
    /// Has all provider roles of the tenant.
    pub rest: Rest,
    pub tenant_id: String,
    pub gateway_id: String,
    /// The port of its only listener.
    pub port: u16,
    cluster_id: String,
}

impl Provider {
    /// Creates a tenant with this slug, and a gateway at a port of its own.
    pub async fn create(stack: &Stack, slug: &str) -> Result<Self> {
        Self::create_at(stack, slug, ports::free()?).await
    }

    /// The same, with this port, which tenants may share.
    pub async fn create_at(stack: &Stack, slug: &str, port: u16) -> Result<Self> {
        let tenant =
            stack.admin.post("/v1/tenants", &json!({ "name": slug, "slug": slug })).await?;
        let tenant_id = text(&tenant, "id")?;
        let roles = ["org-admin", "api-developer", "business-manager", "gateway-owner"];
        let token = json!({ "tenant_id": tenant_id, "name": "people", "roles": roles });
        let token = stack.admin.post("/v1/api-tokens", &token).await?;
        let rest = stack.admin.with_token(text(&token, "token")?);
        let gateway = json!({
            "name": "public",
            "gateway_class": "envoy-gateway",
            "listeners": [{ "name": "http", "port": port, "protocol": "HTTP" }],
        });
        let gateway_id = text(&rest.post("/v1/gateways", &gateway).await?, "id")?;
        let cluster_id = stack.cluster_id.clone();
        Ok(Self { rest, tenant_id, gateway_id, port, cluster_id })
    }

    /// The address for callers.
    pub fn address(&self) -> std::net::SocketAddr {
        ports::local(self.port)
    }

    /// Creates an API service from its whole spec.
    pub async fn service(&self, spec: &Value) -> Result<String> {
        text(&self.rest.post("/v1/api-services", spec).await?, "id")
    }

    /// Creates a public product of these services.
    pub async fn product(&self, name: &str, services: &[String]) -> Result<String> {
        let spec = json!({
            "name": name,
            "product_version": "v1.0",
            "categories": ["payments", "fintech"],
            "visibility": "public",
            "api_services": services,
        });
        text(&self.rest.post("/v1/products", &spec).await?, "id")
    }

    /// Creates a plan whose subscriptions need no approval.
    pub async fn plan(&self, product_id: &str, per_minute: u64) -> Result<String> {
        let spec = json!({
            "product_id": product_id,
            "name": format!("{per_minute} a minute"),
            "rate_limit": { "requests": per_minute, "per": "minute" },
            "auto_approve": true,
        });
        text(&self.rest.post("/v1/plans", &spec).await?, "id")
    }

    /// The body to POST to `/v1/product-publishes`.
    pub fn publish_spec(&self, product_id: &str, host: &str, auth_mode: &str) -> Value {
        json!({
            "product_id": product_id,
            "gateway_id": self.gateway_id,
            "cluster_id": self.cluster_id,
            "environment": "prod",
            "auth_mode": auth_mode,
            "hostnames": [host],
        })
    }

    /// Publishes without waiting.
    pub async fn publish(&self, product_id: &str, host: &str, auth_mode: &str) -> Result<String> {
        let spec = self.publish_spec(product_id, host, auth_mode);
        text(&self.rest.post("/v1/product-publishes", &spec).await?, "id")
    }

    /// Creates a service with one route to the upstream and a product of it; `label` names both.
    pub async fn echo(&self, stack: &Stack, label: &str) -> Result<Echo> {
        let service_id = self.service(&echo_service(stack, label, "/")).await?;
        let product_id = self.product(label, std::slice::from_ref(&service_id)).await?;
        Ok(Echo { service_id, product_id })
    }
}

/// A service and its product.
#[derive(Clone, Debug)]
pub struct Echo {
    pub service_id: String,
    pub product_id: String,
}

/// A service that forwards everything below `prefix` to the upstream, and adds a header to the
/// answer: `x-edition: <label>`.
pub fn echo_service(stack: &Stack, label: &str, prefix: &str) -> Value {
    json!({
        "name": label,
        "backends": [backend(stack)],
        "routes": [{ "name": "all", "path": { "prefix": prefix }, "backend_id": "upstream" }],
        "policies": [{
            "name": "edition",
            "type": "response_headers",
            "config": { "set": [{ "name": "x-edition", "value": label }] },
        }],
    })
}

/// The stack's upstream as a backend with the name `upstream`.
pub fn backend(stack: &Stack) -> Value {
    let address = stack.upstream.address();
    let endpoint = json!({ "host": address.ip().to_string(), "port": address.port() });
    json!({ "name": "upstream", "endpoints": [endpoint] })
}

/// The PRD's Payment API: routes, a backend, a rate-limit policy.
pub fn payment_service(stack: &Stack) -> Value {
    json!({
        "name": "payment-service",
        "api_version": "v1",
        "backends": [backend(stack)],
        "routes": [
            { "name": "payments", "path": { "prefix": "/payments" }, "backend_id": "upstream" },
            {
                "name": "refunds",
                "path": { "template": "/refunds/{id}" },
                "methods": ["GET", "POST"],
                "backend_id": "upstream",
            },
        ],
        "policies": [
            { "name": "limit", "type": "rate_limit", "config": { "requests": 1000, "per": "minute" } },
        ],
    })
}

/// A customer company, its own token, and an app.
pub struct Buyer {
    /// Has the role customer-admin.
    pub rest: Rest,
    pub customer_id: String,
    pub client_app_id: String,
}

/// A key with its subscription.
pub struct Key {
    pub subscription_id: String,
    pub credential_id: String,
    /// The value for `X-API-Key`.
    pub text: String,
}

impl Buyer {
    /// Creates a customer of the provider.
    pub async fn create(provider: &Provider, name: &str) -> Result<Self> {
        let customer = provider.rest.post("/v1/customers", &json!({ "name": name })).await?;
        let customer_id = text(&customer, "id")?;
        let token = json!({
            "name": name, "roles": ["customer-admin", "api-consumer"], "customer_id": customer_id,
        });
        let token = provider.rest.post("/v1/api-tokens", &token).await?;
        let rest = provider.rest.with_token(text(&token, "token")?);
        let app = json!({ "customer_id": customer_id, "name": "web shop" });
        let client_app_id = text(&rest.post("/v1/client-apps", &app).await?, "id")?;
        Ok(Self { rest, customer_id, client_app_id })
    }

    /// Subscribes in prod, makes the app a consumer, and issues a key.
    pub async fn buy(&self, product_id: &str, plan_id: &str) -> Result<Key> {
        let subscription = json!({
            "customer_id": self.customer_id,
            "product_id": product_id,
            "environment": "prod",
            "plan_id": plan_id,
        });
        let subscription = self.rest.post("/v1/subscriptions", &subscription).await?;
        let subscription_id = text(&subscription, "id")?;
        self.key(subscription_id).await
    }

    async fn key(&self, subscription_id: String) -> Result<Key> {
        let consumer =
            json!({ "subscription_id": subscription_id, "client_app_id": self.client_app_id });
        let consumer_id = text(&self.rest.post("/v1/consumers", &consumer).await?, "id")?;
        let credential = json!({ "consumer_id": consumer_id });
        let credential = self.rest.post("/v1/credentials", &credential).await?;
        let credential_id = text(&credential, "id")?;
        Ok(Key { subscription_id, credential_id, text: text(&credential, "api_key")? })
    }
}
