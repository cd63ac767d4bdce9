//! A control plane with callers, and a shop to fill it with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use imp_control::app::{App, Running};
use imp_control::config::{ClaimFlags, Config};
use imp_control::state::Clock;
use imp_store::testing::{Database, Kind};
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A running control plane.
pub struct ControlPlane {
    pub dir: TempDir,
    pub running: Running,
    pub now: Now,
    pub admin: Caller,
}

/// A clock that tests move.
#[derive(Clone, Debug)]
pub struct Now(Arc<Mutex<DateTime<Utc>>>);

impl Now {
    async fn run(
        &self,
        dir: &TempDir,
        database_url: Option<&str>,
        change: impl FnOnce(Config) -> Config,
    ) -> Running {
        let now = self.clone();
        let clock = Clock::from_fn(move || now.get());
        let database_url = database_url.map(str::to_owned);
        let config = Config { database_url, ..Config::in_process(dir.path()) };
        App::start_at(change(config), clock).await.unwrap()
    }

    pub fn advance(&self, by: TimeDelta) {
        *self.0.lock().unwrap() += by;
    }

    pub fn get(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

impl ControlPlane {
    pub async fn start() -> Self {
        Self::start_on(None).await
    }

    /// Starts on an empty database of this kind.
    pub async fn on(kind: Kind) -> Self {
        match kind {
            Kind::Sqlite => Self::start().await,
            Kind::Postgres => {
                let database = Database::fresh(kind).await.unwrap();
                Self::start_on(Some(database.url())).await
            }
        }
    }

    /// Starts on this database, or on its own file.
    pub async fn start_on(database_url: Option<&str>) -> Self {
        Self::start_as(database_url, |config| config).await
    }

    /// Starts with other settings.
    pub async fn start_with(change: impl FnOnce(Config) -> Config) -> Self {
        Self::start_as(None, change).await
    }

    /// Starts on an empty database of this kind, with these rules for hostnames and ports.
    pub async fn ruled(kind: Kind, claims: ClaimFlags) -> Self {
        let change = |config| Config { claims, ..config };
        match kind {
            Kind::Sqlite => Self::start_as(None, change).await,
            Kind::Postgres => {
                let database = Database::fresh(kind).await.unwrap();
                Self::start_as(Some(database.url()), change).await
            }
        }
    }

    pub async fn start_as(
        database_url: Option<&str>,
        change: impl FnOnce(Config) -> Config,
    ) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = TempDir::new().unwrap();
        let now = Now(Arc::new(Mutex::new(imp_process::clock::now())));
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let running = now.run(&dir, database_url, change).await;
        let base = format!("http://{}", running.rest_addr);
        let admin = Caller { http, base, token: running.admin_token.clone() };
        Self { dir, running, now, admin }
    }

    /// Restarts it on the same data, on other ports.
    pub async fn restart(self, database_url: Option<&str>) -> Self {
        let Self { dir, running, now, admin } = self;
        running.shutdown().await;
        let running = now.run(&dir, database_url, |config| config).await;
        let base = format!("http://{}", running.rest_addr);
        Self { dir, running, now, admin: Caller { base, ..admin } }
    }

    pub fn nobody(&self) -> Caller {
        self.admin.with(None)
    }

    /// Creates a token with these roles; operators' without a tenant.
    pub async fn token(
        &self,
        tenant: Option<&str>,
        customer: Option<&str>,
        roles: &[&str],
    ) -> Caller {
        let body = json!({
            "name": "test", "roles": roles, "tenant_id": tenant, "customer_id": customer,
        });
        let made = self.admin.make("api-tokens", body).await;
        self.admin.with(made["token"].as_str())
    }

    /// Everything that can be read, in one value: it must not change by a refusal.
    pub async fn everything(&self) -> Value {
        let mut all = BTreeMap::new();
        for kind in KINDS {
            all.insert(
                kind.to_string(),
                self.admin.get(&format!("/v1/{kind}?page_size=200")).await.body,
            );
        }
        let head = imp_store::outbox::head(&self.running.store).await.unwrap();
        all.insert("outbox".to_owned(), json!(head));
        json!(all)
    }
}

/// All collections.
pub const KINDS: [&str; 14] = [
    "tenants",
    "api-tokens",
    "api-services",
    "gateways",
    "domains",
    "products",
    "plans",
    "clusters",
    "product-publishes",
    "customers",
    "subscriptions",
    "client-apps",
    "consumers",
    "credentials",
];

/// A caller with or without a token.
#[derive(Clone)]
pub struct Caller {
    pub http: reqwest::Client,
    pub base: String,
    pub token: Option<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Answer {
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Checks a refusal: status, code, and the pointer of the first fault ("" if there is none).
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str, pointer: &str) {
        let first = &self.body["errors"][0];
        let found = first["code"].as_str().unwrap_or(self.code());
        let at = first["pointer"].as_str().unwrap_or_default();
        assert_eq!((self.status.as_u16(), found, at), (status, code, pointer), "{:#}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["request_id"], self.header("x-request-id"));
    }

    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.status.is_success(), "{}: {:#}", self.status, self.body);
        self.body
    }
}

impl Caller {
    pub fn with(&self, token: Option<&str>) -> Self {
        Self { token: token.map(str::to_owned), ..self.clone() }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub async fn finish(request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, body }
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Answer {
        let request = self.request(method, path);
        Self::finish(match body {
            Some(body) => request.json(body),
            None => request,
        })
        .await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Method::POST, path, Some(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PUT, path, Some(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(Method::PATCH, path, Some(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, None).await
    }

    /// Performs an action.
    pub async fn step(&self, path: &str) -> Answer {
        self.send(Method::POST, path, None).await
    }

    #[track_caller]
    pub fn make(&self, kind: &str, body: Value) -> impl Future<Output = Value> {
        let (caller, path) = (self.clone(), format!("/v1/{kind}"));
        async move {
            let answer = caller.post(&path, body).await;
            assert_eq!(answer.status, 201, "POST {path}: {:#}", answer.body);
            let place = answer.header("location").to_owned();
            assert_eq!(answer.header("etag"), format!("\"{}\"", answer.body["version"]));
            assert!(place.ends_with(answer.body["id"].as_str().unwrap()), "{place}");
            answer.body
        }
    }
}

/// A tenant that sells one API to one customer, from tenant to credential.
pub struct Shop {
    /// By name of the collection.
    pub objects: BTreeMap<&'static str, Value>,
    pub host: String,
    /// All provider roles.
    pub provider: Caller,
    /// Both customer roles, of its one customer.
    pub customer: Caller,
}

pub const PROVIDER: [&str; 4] = ["org-admin", "api-developer", "business-manager", "gateway-owner"];
pub const CUSTOMER: [&str; 2] = ["customer-admin", "api-consumer"];

impl Shop {
    pub fn id(&self, kind: &str) -> &str {
        self.objects[kind]["id"].as_str().unwrap()
    }

    pub fn path(&self, kind: &str) -> String {
        format!("/v1/{kind}/{}", self.id(kind))
    }

    pub async fn open(plane: &ControlPlane, slug: &'static str) -> Self {
        let admin = &plane.admin;
        let tenant = admin.make("tenants", json!({ "name": slug, "slug": slug })).await;
        let tenant_id = tenant["id"].as_str().unwrap().to_owned();
        let provider = plane.token(Some(&tenant_id), None, &PROVIDER).await;
        let host = format!("{slug}.example.com");
        let mut shop = Self { objects: BTreeMap::new(), host, provider, customer: admin.clone() };
        shop.objects.insert("tenants", tenant);
        let cluster = admin.make("clusters", json!({ "name": format!("{slug}-cluster") })).await;
        shop.objects.insert("clusters", cluster);
        shop.define().await;
        let customer = shop.provider.make("customers", json!({ "name": "Shop Ltd" })).await;
        let customer_id = customer["id"].as_str().unwrap().to_owned();
        shop.customer = plane.token(Some(&tenant_id), Some(&customer_id), &CUSTOMER).await;
        shop.objects.insert("customers", customer);
        shop.sell().await;
        let token = json!({ "name": "ci", "roles": ["org-admin"] });
        let token = shop.provider.make("api-tokens", token).await;
        shop.objects.insert("api-tokens", token);
        shop
    }

    fn slug(&self) -> &str {
        self.objects["tenants"]["slug"].as_str().unwrap()
    }

    async fn define(&mut self) {
        let service = self.provider.make("api-services", payment_service()).await;
        self.objects.insert("api-services", service);
        let gateway = self.provider.make("gateways", public_gateway()).await;
        self.objects.insert("gateways", gateway);
        let domain = json!({ "name": format!("{}.shop", self.slug()) });
        let domain = self.provider.make("domains", domain).await;
        self.objects.insert("domains", domain);
        let product = json!({
            "name": "Payment API", "visibility": "public", "api_services": [self.id("api-services")],
        });
        let product = self.provider.make("products", product).await;
        self.objects.insert("products", product);
        let plan = json!({
            "product_id": self.id("products"), "name": "gold", "auto_approve": true,
            "rate_limit": { "requests": 60, "per": "minute" },
        });
        let plan = self.provider.make("plans", plan).await;
        self.objects.insert("plans", plan);
        let publish = self.provider.make("product-publishes", self.publish(&self.host)).await;
        self.objects.insert("product-publishes", publish);
    }

    async fn sell(&mut self) {
        let subscription = self.customer.make("subscriptions", self.subscription()).await;
        self.objects.insert("subscriptions", subscription);
        let app = json!({ "customer_id": self.id("customers"), "name": "web shop" });
        let app = self.customer.make("client-apps", app).await;
        self.objects.insert("client-apps", app);
        let consumer = json!({
            "subscription_id": self.id("subscriptions"), "client_app_id": self.id("client-apps"),
        });
        let consumer = self.customer.make("consumers", consumer).await;
        self.objects.insert("consumers", consumer);
        let credential = json!({ "consumer_id": self.id("consumers") });
        let credential = self.customer.make("credentials", credential).await;
        self.objects.insert("credentials", credential);
    }

    /// Moves its gateway to another port.
    pub async fn listen_on(&self, port: u16) {
        let mut edit = public_gateway();
        edit["listeners"][0]["port"] = json!(port);
        self.provider.patch(&self.path("gateways"), edit).await.ok();
    }

    /// A body for another publish of the product.
    pub fn publish(&self, host: &str) -> Value {
        json!({
            "product_id": self.id("products"), "gateway_id": self.id("gateways"),
            "cluster_id": self.id("clusters"), "environment": "prod", "auth_mode": "api_key",
            "hostnames": [host],
        })
    }

    pub fn subscription(&self) -> Value {
        json!({
            "customer_id": self.id("customers"), "product_id": self.id("products"),
            "environment": "prod", "plan_id": self.id("plans"),
        })
    }
}

pub fn payment_service() -> Value {
    json!({
        "name": "payment-service",
        "backends": [{ "name": "svc", "endpoints": [{ "host": "127.0.0.1", "port": 9000 }] }],
        "routes": [
            { "name": "payments", "path": { "prefix": "/payments" }, "backend_id": "svc" },
            { "name": "refunds", "path": { "prefix": "/refunds" }, "backend_id": "svc" },
        ],
        "policies": [
            { "name": "limit", "type": "rate_limit", "config": { "requests": 1000, "per": "minute" } },
        ],
    })
}

pub fn public_gateway() -> Value {
    json!({
        "name": "public", "gateway_class": "envoy-gateway",
        "listeners": [{ "name": "http", "port": 8080, "protocol": "HTTP" }],
    })
}
