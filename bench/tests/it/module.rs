//! The module inside Envoy decides in the agent's place: the same answers, also without an agent.

mod away;
mod doors;
mod load;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use imp_bench::edge::{Answer, Connection, call};
use imp_bench::process::eventually;
use imp_bench::sample::{Buyer, Key, Provider};
use imp_bench::stack::{Options, PATIENCE, Stack, program};
use serde_json::{Value, json};

use crate::alone::{alone, side_by_side};

const KEYED: &str = "keyed.example.com";
const PUBLIC: &str = "public.example.com";

fn library() -> Result<PathBuf> {
    program("libimp_module.so")
}

fn with_module() -> Options {
    Options { workers: 2, ..Options::default() }
}

struct Shop {
    provider: Provider,
    buyer: Buyer,
    product: String,
    plan: String,
}

/// A publish that asks for a key, wherever it may be, and one that does not.
async fn shop(stack: &Stack) -> Result<Shop> {
    let provider = Provider::create(stack, "acme").await?;
    let product = provider.echo(stack, "echo").await?.product_id;
    let plan = provider.plan(&product, 100_000).await?;
    let mut spec = provider.publish_spec(&product, KEYED, "api_key");
    spec["api_key"] = json!({ "header": "apikey", "query": "api_key" });
    let keyed = provider.rest.post("/v1/product-publishes", &spec).await?;
    let keyed = keyed["id"].as_str().context("no id")?.to_owned();
    let public = provider.publish(&product, PUBLIC, "none").await?;
    for publish in [keyed, public] {
        stack.publish_reaches(&publish, "active", PATIENCE).await?;
    }
    let buyer = Buyer::create(&provider, "Shop Ltd").await?;
    Ok(Shop { provider, buyer, product, plan })
}

impl Shop {
    async fn buy(&self) -> Result<Key> {
        self.buyer.buy(&self.product, &self.plan).await
    }

    /// Calls that the control plane has been told of.
    async fn used(&self, key: &Key) -> Result<u64> {
        let path = format!("/v1/usage?subscription_id={}", key.subscription_id);
        let page = self.provider.rest.get(&path).await?;
        let hours = page["items"].as_array().context("no items")?;
        Ok(hours.iter().filter_map(|hour| hour["allowed"].as_u64()).sum())
    }
}

/// What does not differ from call to call.
fn seen(answer: &Answer) -> Value {
    let mut body = answer.json();
    let has_id = body["request_id"].as_str().is_some_and(|id| id.len() == 36);
    let same_id = body["request_id"].as_str() == answer.header("x-request-id");
    if let Some(fields) = body.as_object_mut() {
        fields.remove("request_id");
        // The upstream's echo has ids that differ.
        fields.retain(|name, _| answer.status != 200 || name == "path");
    }
    let header = |name: &str| answer.header(name).map(str::to_owned);
    let header =
        ["content-type", "www-authenticate", "retry-after", "allow", "grpc-status"].map(header);
    json!({ "status": answer.status, "body": body, "headers": header, "id": has_id, "same": same_id })
}

/// Method, host, path, headers.
type Call<'a> = (&'a str, &'a str, &'a str, Vec<(&'a str, &'a str)>);

/// Calls of every kind, and their answers.
async fn table(options: Options) -> Result<Vec<(String, Value)>> {
    let stack = Stack::start(options).await?;
    let shop = shop(&stack).await?;
    let (key, at) = (shop.buy().await?, shop.provider.address());
    stack.answers(at, KEYED, "/pay", &[("x-api-key", &key.text)], 200).await?;
    let by_query = format!("/pay?a=1&api_key={}&b=2", key.text);
    let twice = format!("/pay?api_key={0}&api_key={0}", key.text);
    let bearer = format!("Bearer {}", key.text);
    let calls: Vec<Call<'_>> = vec![
        ("GET", KEYED, "/pay", vec![("x-api-key", &key.text)]),
        ("GET", KEYED, "/pay", vec![("apikey", &key.text), ("x-imp-consumer", "forged")]),
        ("GET", KEYED, &by_query, vec![]),
        ("GET", KEYED, &twice, vec![]),
        ("GET", KEYED, "/pay", vec![]),
        ("GET", KEYED, "/pay", vec![("x-api-key", "imp_wrong")]),
        ("GET", KEYED, "/pay", vec![("authorization", &bearer)]),
        ("GET", KEYED, "/pay", vec![("x-other-key", &key.text)]),
        ("GET", KEYED, "/pay", vec![("content-type", "application/grpc")]),
        ("GET", PUBLIC, "/pay", vec![("x-api-key", "imp_wrong")]),
        ("GET", PUBLIC, "/pay", vec![]),
        ("DELETE", PUBLIC, "/pay", vec![]),
        ("TRACE", PUBLIC, "/pay", vec![]),
        ("GET", PUBLIC, "/a%2Fb", vec![]),
        ("GET", "unknown.example.com", "/pay", vec![]),
        ("GET", "unknown.example.com", "/pay", vec![("content-type", "application/grpc")]),
    ];
    let mut answers = Vec::new();
    for (method, host, path, headers) in calls {
        let mut open = Connection::open(at).await?;
        let answer = open.send(method, host, path, &headers).await?;
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(answer.status != 200 || !text.contains(&key.text), "the upstream saw the key");
        let secret = |text: &str| text.replace(&key.text, "KEY");
        let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
        answers.push((format!("{method} {host} {} {names:?}", secret(path)), seen(&answer)));
    }
    Ok(answers)
}

#[tokio::test(flavor = "multi_thread")]
async fn both_doors_answer_alike() -> Result<()> {
    let _turn = side_by_side().await;
    let by_agent = table(Options::asking()).await?;
    let by_module = table(with_module()).await?;
    for (agent, module) in by_agent.iter().zip(&by_module) {
        assert_eq!(module, agent);
    }
    let has = |status: u64| by_agent.iter().any(|(_, it)| it["status"].as_u64() == Some(status));
    assert!([200, 401, 404].into_iter().all(has), "{by_agent:?}");
    Ok(())
}

/// More than the buffers of both sockets hold.
const UPLOAD: usize = 8 << 20;

/// A caller that sends everything before it reads gets the answer, and goes on with the connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_is_refused_in_a_way_that_its_caller_can_read() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options::default()).await?;
    let shop = shop(&stack).await?;
    let (key, at) = (shop.buy().await?, shop.provider.address());
    stack.answers(at, KEYED, "/pay", &[("x-api-key", &key.text)], 200).await?;
    let mut open = Connection::open(at).await?;
    for (host, headers, expected) in [
        (KEYED, "", (401, "unauthenticated")),
        (KEYED, "x-api-key: imp_wrong\r\n", (401, "unauthenticated")),
        ("nobody.example.com", "", (404, "no_route")),
    ] {
        let head = format!(
            "POST /pay HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: {UPLOAD}\r\n\r\n"
        );
        let mut request = head.into_bytes();
        request.resize(request.len() + UPLOAD, b'a');
        let answer = open.send_raw(&request).await.with_context(|| format!("{host} {headers}"))?;
        let code = answer.json()["code"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answer.status, code.as_str()), expected, "{answer:?}");
        assert!(!open.is_closing(), "the connection goes on");
    }
    assert_eq!(stack.upstream.calls(), 1, "nothing of them reaches the upstream");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_on_without_an_agent_and_are_counted_exactly() -> Result<()> {
    let _turn = alone().await;
    let mut stack = Stack::start(with_module()).await?;
    let shop = shop(&stack).await?;
    let (key, at) = (shop.buy().await?, shop.provider.address());
    let own = [("x-api-key", key.text.as_str())];
    stack.answers(at, KEYED, "/pay", &own, 200).await?;
    let mut passed = 1;
    assert_eq!(stack.agent.metric("imp_door_calls_total").await?, 0.0, "the agent was asked");
    assert_eq!(stack.agent.metric("imp_module_connected").await?, 1.0);

    // The agent is gone: valid keys pass, at once, and others do not. A key of the last moment before is not on its disk,
    // and would be unknown from its return until the control plane has told it again.
    let written =
        async || Ok((stack.agent.metric("imp_lkg_behind_rows").await? == 0.0).then_some(()));
    eventually("all is on disk", PATIENCE, written).await?;
    stack.agent.kill();
    let mut open = Connection::open(at).await?;
    for _ in 0..50 {
        assert_eq!(open.get(KEYED, "/pay", &own).await?.status, 200);
        assert_eq!(open.get(KEYED, "/pay", &[("x-api-key", "imp_wrong")]).await?.status, 401);
        assert_eq!(open.get(PUBLIC, "/pay", &[]).await?.status, 200);
        passed += 1;
    }
    // It is back, with the same state: nothing was lost, nothing counts twice.
    stack.restart_agent().await?;
    assert_eq!(open.get(KEYED, "/pay", &own).await?.status, 200);
    passed += 1;
    exactly(&shop, &key, passed).await?;

    // Envoy dies, too; the file of counts stays, and it starts with the keys it needs.
    stack.envoys.clear();
    stack.add_envoy().await?;
    stack.answers(at, KEYED, "/pay", &own, 200).await?;
    passed += 1;
    exactly(&shop, &key, passed).await?;

    // A key that is revoked while the agent is away is refused as soon as it is back, and one that is
    // revoked now as soon as that is known.
    stack.agent.kill();
    let path = format!("/v1/credentials/{}/revoke", key.credential_id);
    shop.provider.rest.act(&path).await?;
    assert_eq!(call(at, KEYED, "/pay", &own).await?.status, 200, "nobody could tell the module");
    passed += 1;
    stack.restart_agent().await?;
    stack.answers(at, KEYED, "/pay", &own, 401).await?;
    // Calls that were refused may have been let through before: at least those that passed count.
    let told = async || Ok((shop.used(&key).await? >= passed).then_some(()));
    eventually("all calls are reported", PATIENCE, told).await?;
    Ok(())
}

/// The control plane hears of so many calls, and of no more afterwards.
async fn exactly(shop: &Shop, key: &Key, passed: u64) -> Result<()> {
    let told = async || Ok((shop.used(key).await? >= passed).then_some(()));
    let told = eventually("all calls are reported", PATIENCE, told).await;
    told.with_context(|| format!("{passed} calls passed"))?;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(shop.used(key).await?, passed);
    Ok(())
}
