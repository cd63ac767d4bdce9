//! The tenant at every cap: its objects, and its continuous load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Result, ensure};
use imp_grammar::caps;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::rest::{Rest, text};
use crate::sample::{Buyer, Provider, backend};
use crate::stack::Stack;

/// A tenant with as many objects as allowed.
pub struct Attack {
    rest: Arc<Vec<Rest>>,
    control: SocketAddr,
    large: Value,
    service: String,
    /// Ids of its publishes.
    publishes: Arc<Vec<String>>,
    running: JoinSet<()>,
    answers: Arc<Answers>,
}

/// How often its calls were served and refused.
#[derive(Debug, Default)]
pub struct Answers {
    /// Calls that succeeded.
    pub served: AtomicU64,
    /// Calls that were refused for exceeding a limit: 409, 422, 429 or a closed connection.
    pub refused: AtomicU64,
    /// Calls that failed: a 5xx other than 503.
    pub failed: AtomicU64,
}

impl Answers {
    fn count(&self, done: &Result<StatusCode>) {
        let counter = match done {
            Ok(status) if status.is_success() => &self.served,
            Ok(StatusCode::SERVICE_UNAVAILABLE) => &self.refused,
            Ok(status) if status.is_server_error() => &self.failed,
            _ => &self.refused,
        };
        counter.fetch_add(1, Relaxed);
    }
}

impl Attack {
    /// Publishes until the tenant's share of the cluster is used up, and issues this many keys.
    pub async fn prepare(stack: &Stack, keys: usize) -> Result<Self> {
        let provider = Provider::create(stack, "hostile").await?;
        let large = headers_service(stack, "large", 1_000);
        let service = provider.service(&large).await?;
        let mut products = Vec::new();
        for (name, services) in [
            ("headers", vec![headers_service(stack, "headers", weighing_most())]),
            ("routes", (0..4).map(|n| routes_service(stack, &format!("routes {n}"))).collect()),
            ("regexes", (0..4).map(|n| regex_service(stack, &format!("regexes {n}"))).collect()),
        ] {
            let mut ids = Vec::new();
            for service in services {
                ids.push(provider.service(&service).await?);
            }
            products.push(provider.product(name, &ids).await?);
        }
        let accomplice = products[0].clone();
        let mut publishes = Vec::new();
        // In turns, each until one is refused.
        while !products.is_empty() {
            let mut left = Vec::new();
            for product in products {
                let host = format!("h{}.example.com", publishes.len());
                let spec = provider.publish_spec(&product, &host, "none");
                let (status, made) = post(&provider.rest, "/v1/product-publishes", &spec).await?;
                match status {
                    StatusCode::CREATED => {
                        publishes.push(text(&made, "id")?);
                        left.push(product);
                    }
                    StatusCode::CONFLICT => {}
                    other => ensure!(false, "{other}: {made}"),
                }
            }
            products = left;
        }
        let plan = provider.plan(&accomplice, 1_000).await?;
        let buyer = Buyer::create(&provider, "accomplice").await?;
        let first = buyer.buy(&accomplice, &plan).await?;
        let known = buyer.rest.get(&format!("/v1/credentials/{}", first.credential_id)).await?;
        let consumer = json!({ "consumer_id": text(&known, "consumer_id")? });
        for _ in 1..keys {
            let (status, made) = post(&buyer.rest, "/v1/credentials", &consumer).await?;
            ensure!(status == StatusCode::CREATED, "a key: {status} {made}");
        }
        let mut rest = Vec::new();
        for index in 0..8 {
            let token = json!({
                "tenant_id": provider.tenant_id, "name": format!("t{index}"),
                "roles": ["org-admin", "api-developer", "business-manager", "gateway-owner"],
            });
            let token = stack.admin.post("/v1/api-tokens", &token).await?;
            rest.push(provider.rest.with_token(text(&token, "token")?));
        }
        Ok(Self {
            rest: Arc::new(rest),
            control: stack.control.listen,
            large,
            service,
            publishes: Arc::new(publishes),
            running: JoinSet::new(),
            answers: Arc::default(),
        })
    }

    /// The number of its publishes.
    pub fn publishes(&self) -> usize {
        self.publishes.len()
    }

    /// The counts of answers.
    pub fn answers(&self) -> Arc<Answers> {
        self.answers.clone()
    }

    /// Loads REST at full speed with all tokens, idle connections, and bodies that do not end;
    /// until dropped.
    pub fn start(&mut self, connections: usize) {
        for worker in 0..16 {
            let (all, answers) = (self.rest.clone(), self.answers.clone());
            let (publishes, large) = (self.publishes.clone(), self.large.clone());
            let service = self.service.clone();
            self.running.spawn(async move {
                // Names contain the round, so no two workers share one.
                for round in worker * 1_000_001.. {
                    let Some(rest) = all.get(round % all.len()) else { return };
                    let publish = publishes.get(round % publishes.len().max(1));
                    let done = one(rest, round, &service, &large, publish).await;
                    answers.count(&done);
                }
            });
        }
        for index in 0..connections {
            let (control, answers) = (self.control, self.answers.clone());
            let head: &[u8] = if index % 3 == 0 {
                b""
            } else {
                b"POST /v1/customers HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n"
            };
            self.running.spawn(async move {
                loop {
                    let _closed = linger(control, head).await;
                    answers.refused.fetch_add(1, Relaxed);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        }
    }
}

async fn post(rest: &Rest, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
    rest.patient(Method::POST, path, Some(body)).await
}

/// Sends a part of a request, and waits until the server closes the connection.
async fn linger(control: SocketAddr, head: &[u8]) -> Result<()> {
    let mut stream = TcpStream::connect(control).await?;
    stream.write_all(head).await?;
    let mut buffer = [0; 64];
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// Makes one of the most expensive calls.
async fn one(
    rest: &Rest,
    round: usize,
    service: &str,
    large: &Value,
    publish: Option<&String>,
) -> Result<StatusCode> {
    let done = match round % 6 {
        0 => {
            let mut body = large.clone();
            if let Some(fields) = body.as_object_mut() {
                fields.insert("description".to_owned(), json!(format!("round {round}")));
            }
            let path = format!("/v1/api-services/{service}");
            rest.send(Method::PUT, &path, Some(&body)).await?
        }
        1 => rest.send(Method::GET, "/v1/api-services?page_size=200", None).await?,
        2 => {
            let path = publish.map_or_else(String::new, |id| format!("/v1/product-publishes/{id}"));
            rest.send(Method::POST, &format!("{path}/redeploy"), None).await?
        }
        3 => rest.send(Method::POST, "/v1/api-services", Some(&bomb(round))).await?,
        4 => rest.send(Method::GET, "/v1/product-publishes?page_size=200", None).await?,
        _ => {
            let body = json!({ "name": format!("customer {round}") });
            rest.send(Method::POST, "/v1/customers", Some(&body)).await?
        }
    };
    Ok(done.0)
}

/// The number of routes of [`headers_service`] that fit into a publish: each takes some 16 KB at a
/// gateway.
fn weighing_most() -> usize {
    caps::PUBLISH_SERVED_BYTES.size() / 16_200
}

/// As many routes as a publish may have, in four services.
fn routes_service(stack: &Stack, name: &str) -> Value {
    let route = |index: usize| {
        json!({
            "name": format!("r{index}"), "path": { "template": format!("/{name}/{{x}}/{index}").replace(' ', "-") },
            "backend_id": "upstream",
        })
    };
    json!({
        "name": name, "backends": [backend(stack)],
        "routes": (0..caps::ROUTES_PER_PUBLISH.size() / 4).map(route).collect::<Vec<_>>(),
    })
}

/// Routes with a policy that applies to each of them.
fn headers_service(stack: &Stack, name: &str, routes: usize) -> Value {
    let route = |index: usize| {
        json!({
            "name": format!("r{index}"), "path": { "template": format!("/a/{{x}}/{index}") },
            "backend_id": "upstream",
        })
    };
    let header = |index: usize| json!({ "name": format!("x-{index}"), "value": "v".repeat(100) });
    json!({
        "name": name, "backends": [backend(stack)],
        "routes": (0..routes).map(route).collect::<Vec<_>>(),
        "policies": [{
            "name": "p", "type": "request_headers",
            "config": { "set": (0..64).map(header).collect::<Vec<_>>() },
        }],
    })
}

/// As many expressions as a service may have, each of the largest size.
fn regex_service(stack: &Stack, name: &str) -> Value {
    let route = |index: usize| {
        let text = format!("/{index:03}[a-z]{{{}}}", caps::REGEX_PROGRAM.value - 4);
        json!({ "name": format!("r{index}"), "path": { "regex": text }, "backend_id": "upstream" })
    };
    json!({
        "name": name, "backends": [backend(stack)],
        "routes": (0..caps::REGEXES_PER_SERVICE.size()).map(route).collect::<Vec<_>>(),
    })
}

/// Took a control plane 30 s before expressions were counted.
fn bomb(round: usize) -> Value {
    let header = |index: usize| json!({ "name": format!("x-{index}"), "value": { "regex": format!(r"\w{{90}}{index}") } });
    json!({
        "name": format!("bomb {round}"),
        "backends": [{ "name": "b", "endpoints": [{ "host": "127.0.0.1", "port": 9 }] }],
        "routes": [{
            "name": "all", "path": { "prefix": "/" }, "backend_id": "b",
            "headers": (0..2000).map(header).collect::<Vec<_>>(),
        }],
    })
}
