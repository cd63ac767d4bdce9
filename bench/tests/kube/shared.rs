//! A Gateway that others use, too.

use anyhow::{Context as _, Result};
use imp_bench::edge::call;
use imp_bench::kube::{Down, ENVOY_GATEWAY, Edge, GATEWAYS, has_condition};
use imp_bench::ports;
use imp_bench::process::eventually;
use imp_bench::rest::text;
use imp_bench::sample::Buyer;
use imp_bench::stack::PATIENCE;
use serde_json::{Value, json};

use super::callers::Callers;

const OURS: &str = "ours.example.com";
const THEIRS: &str = "theirs.example.com";

async fn status(edge: &Edge, host: &str, headers: &[(&str, &str)]) -> Result<u16> {
    Ok(call(edge.address, host, "/", headers).await?.status)
}

async fn becomes(edge: &Edge, host: &str, wanted: u16) -> Result<()> {
    let what = format!("{host} {wanted}");
    eventually(&what, PATIENCE, async || {
        Ok((status(edge, host, &[]).await.ok() == Some(wanted)).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn one_gateway_serves_their_routes_and_our_publishes_whoever_of_us_is_away() -> Result<()> {
    let mut edge = Edge::start("shared").await?;
    becomes(&edge, THEIRS, 200).await?;
    let product = edge.provider.echo(&edge.stack, "ours").await?.product_id;
    let publish = edge.provider.publish(&product, OURS, "api_key").await?;
    let active = edge.stack.publish_reaches(&publish, "active", PATIENCE).await;
    active.with_context(|| "active by the answers of Envoy Gateway's Envoy".to_owned())?;
    // Active means that calls come, even at a host that is new to Envoy Gateway.
    assert_eq!(status(&edge, OURS, &[]).await?, 401);
    let plan = edge.provider.plan(&product, 100_000).await?;
    let buyer = Buyer::create(&edge.provider, "shop").await?;
    let key = buyer.buy(&product, &plan).await?.text;
    let with_key = [("x-api-key", &*key)];
    let ours = edge.stack.answers(edge.address, OURS, "/", &with_key, 200).await?;
    assert_eq!(ours.header("x-edition"), Some("ours"));
    assert_eq!(status(&edge, THEIRS, &[]).await?, 200);
    let policy = format!("{ENVOY_GATEWAY}/namespaces/shared/envoypatchpolicies/imp-gw");
    edge.api.until(&policy, |it| has_condition(it, "Programmed", "True")).await?;

    // Without the agent both go on.
    let open = edge.provider.publish(&product, "open.example.com", "none").await?;
    edge.stack.publish_reaches(&open, "active", PATIENCE).await?;
    assert_eq!(status(&edge, "open.example.com", &[]).await?, 200);
    edge.stack.agent.kill();
    assert_eq!(status(&edge, THEIRS, &[]).await?, 200);
    assert_eq!(status(&edge, "open.example.com", &[]).await?, 200);
    edge.api.route("shared", "new", "new.example.com").await?;
    becomes(&edge, "new.example.com", 200).await?;
    edge.stack.restart_agent().await?;
    edge.stack.answers(edge.address, OURS, "/", &with_key, 200).await?;

    // Without Envoy Gateway both go on, and what we publish at a known host is served.
    let down = Down::take("eg")?;
    assert_eq!(status(&edge, THEIRS, &[]).await?, 200);
    let more = edge.provider.echo(&edge.stack, "more").await?.product_id;
    let mut spec = edge.provider.publish_spec(&more, OURS, "none");
    spec["base_path"] = "/more".into();
    let more = edge.provider.rest.post("/v1/product-publishes", &spec).await?;
    let more = more["id"].as_str().context("no id")?.to_owned();
    edge.stack.publish_reaches(&more, "active", PATIENCE).await?;
    let answer = call(edge.address, OURS, "/more", &[]).await?;
    assert_eq!((answer.status, answer.header("x-edition")), (200, Some("more")));
    drop(down);
    becomes(&edge, THEIRS, 200).await?;

    // A host that they have is not ours.
    let taken = edge.provider.publish(&product, "new.example.com", "none").await?;
    let failed = edge.stack.publish_reaches(&taken, "failed", PATIENCE).await?;
    let text = failed.to_string();
    assert!(text.contains("host_taken"), "{text}");
    assert!(
        !text.contains("HTTPRoute") && !text.contains("shared/new"),
        "a route is named: {text}"
    );
    let answer = call(edge.address, "new.example.com", "/", &[]).await?;
    assert_eq!((answer.status, answer.header("x-edition")), (200, None), "theirs still");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn theirs_start_without_the_agent_and_ours_come_with_it() -> Result<()> {
    let mut edge = Edge::start("alone").await?;
    let product = edge.provider.echo(&edge.stack, "ours").await?.product_id;
    let publish = edge.provider.publish(&product, OURS, "none").await?;
    edge.stack.publish_reaches(&publish, "active", PATIENCE).await?;
    edge.stack.agent.kill();
    edge.pod.as_mut().context("no pod")?.restart().await?;
    becomes(&edge, THEIRS, 200).await?;
    assert_ne!(status(&edge, OURS, &[]).await?, 200, "nobody tells it what ours is");
    edge.stack.restart_agent().await?;
    becomes(&edge, OURS, 200).await?;
    // Both pods must have answered.
    let _another = edge.add_pod("envoy-b").await?;
    let more = edge.provider.publish(&product, "more.example.com", "none").await?;
    let active = edge.stack.publish_reaches(&more, "active", PATIENCE).await?;
    assert_eq!(active["nodes"]["acked"], 2, "{active}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn the_certificate_of_another_gateway_gets_nothing_of_this_one() -> Result<()> {
    let mut edge = Edge::start("one").await?;
    let product = edge.provider.echo(&edge.stack, "ours").await?.product_id;
    let publish = edge.provider.publish(&product, OURS, "none").await?;
    edge.stack.publish_reaches(&publish, "active", PATIENCE).await?;
    assert_eq!(status(&edge, OURS, &[]).await?, 200);
    let other = json!({ "name": "other", "listeners": [{"name": "http", "port": 18_888, "protocol": "HTTP"}] });
    let other = text(&edge.provider.rest.post("/v1/gateways", &other).await?, "id")?;
    edge.api.gateway("two", &other, &[], [ports::free()?, ports::free()?]).await?;
    let pod = edge.pod.as_mut().context("no pod")?;
    let volume = json!({"secret": {"secretName": "imp-two.gw"}});
    let folder = pod.mounted("/imp/node");
    let here = folder.display().to_string();
    edge.api.mount(&volume, &folder, |text| text.replace("/imp/node", &here)).await?;
    pod.restart().await?;
    becomes(&edge, THEIRS, 200).await?;
    for _ in 0..20 {
        let ours = status(&edge, OURS, &[]).await?;
        assert!([404, 503].contains(&ours), "{ours}: it serves what is another gateway's");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn the_caller_is_known_behind_the_outer_listener() -> Result<()> {
    let edge = Edge::start("caller").await?;
    let product = edge.provider.echo(&edge.stack, "ours").await?.product_id;
    let publish = edge.provider.publish(&product, OURS, "none").await?;
    edge.stack.publish_reaches(&publish, "active", PATIENCE).await?;
    let forged = [
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-host", "forged.example.com"),
        ("x-forwarded-proto", "https"),
        ("x-imp-plan", "gold"),
        ("x-real-ip", "203.0.113.7"),
    ];
    for _ in 0..2 {
        let answer = call(edge.address, OURS, "/", &forged).await?;
        assert_eq!(answer.status, 200);
        let seen = answer.json();
        let header = |name: &str| seen["headers"].get(name).and_then(Value::as_str);
        assert_eq!(header("x-forwarded-for"), Some(&*edge.address.ip().to_string()), "{seen}");
        assert_eq!(header("x-forwarded-proto"), Some("http"), "{seen}");
        for name in ["x-imp-plan", "x-real-ip", "x-forwarded-host"] {
            assert_eq!(header(name), None, "{name}: {seen}");
        }
        assert_eq!(header("x-request-id"), answer.header("x-request-id"), "{seen}");
        assert!(header("x-request-id").is_some(), "{seen}");
    }
    // Their listener with TLS leads to us, too, and says that the caller came by it.
    let client = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .resolve(OURS, edge.secure)
        .build()?;
    let url = format!("https://{OURS}:{}/", edge.secure.port());
    for _ in 0..2 {
        let answer = client.get(&url).send().await?;
        assert_eq!(answer.status(), 200);
        let seen: Value = answer.json().await?;
        assert_eq!(seen["headers"]["x-forwarded-proto"], "https", "{seen}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn a_listener_without_a_certificate_holds_up_no_publish() -> Result<()> {
    let edge = Edge::start("broken").await?;
    let path = format!("{GATEWAYS}/namespaces/broken/gateways/gw");
    let mut listeners = edge.api.get(&path).await?["spec"]["listeners"].clone();
    let broken = json!({"name": "broken", "port": ports::free()?, "protocol": "HTTPS",
        "tls": {"certificateRefs": [{"name": "missing"}]}});
    listeners.as_array_mut().context("no listeners")?.push(broken);
    edge.api.patch(&path, &json!({"spec": {"listeners": listeners}})).await?;
    let is_seen = |it: &Value| {
        let all = it["status"]["listeners"].as_array().into_iter().flatten();
        all.into_iter().any(|status| status["name"] == "broken")
    };
    edge.api.until(&path, is_seen).await?;
    let product = edge.provider.echo(&edge.stack, "ours").await?.product_id;
    let publish = edge.provider.publish(&product, OURS, "none").await?;
    edge.stack.publish_reaches(&publish, "active", PATIENCE).await?;
    assert_eq!(status(&edge, OURS, &[]).await?, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn no_call_fails_while_everybody_restarts() -> Result<()> {
    let mut edge = Edge::start("restarts").await?;
    let product = edge.provider.echo(&edge.stack, "ours").await?.product_id;
    let publish = edge.provider.publish(&product, OURS, "none").await?;
    edge.stack.publish_reaches(&publish, "active", PATIENCE).await?;
    becomes(&edge, THEIRS, 200).await?;
    becomes(&edge, OURS, 200).await?;
    let callers = [OURS, THEIRS, OURS, THEIRS].map(|host| (host, None));
    let callers = Callers::start(edge.address, &callers);
    for number in 0..2 {
        drop(Down::take("eg")?);
        edge.stack.restart_agent().await?;
        let down = Down::take("apiserver")?;
        // A host that leads to us needs nobody of them.
        let path = format!("/more-{number}");
        let mut spec = edge.provider.publish_spec(&product, OURS, "none");
        spec["base_path"] = path.into();
        let more = text(&edge.provider.rest.post("/v1/product-publishes", &spec).await?, "id")?;
        edge.stack.publish_reaches(&more, "active", PATIENCE).await?;
        // A new host waits for it.
        let host = format!("new-{number}.example.com");
        let new = edge.provider.publish(&product, &host, "none").await?;
        assert_eq!(status(&edge, &host, &[]).await?, 404);
        drop(down);
        edge.stack.publish_reaches(&new, "active", PATIENCE * 3).await?;
        assert_eq!(status(&edge, &host, &[]).await?, 200);
    }
    callers.end().await
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn who_comes_later_has_the_host_and_who_takes_the_label_away_has_the_gateway() -> Result<()> {
    let edge = Edge::start("later").await?;
    let product = edge.provider.echo(&edge.stack, "ours").await?.product_id;
    let publish = edge.provider.publish(&product, OURS, "none").await?;
    edge.stack.publish_reaches(&publish, "active", PATIENCE).await?;
    edge.api.route("later", "taker", OURS).await?;
    edge.stack.publish_reaches(&publish, "failed", PATIENCE).await?;
    let theirs = async || {
        let answer = call(edge.address, OURS, "/", &[]).await?;
        Ok((answer.status == 200 && answer.header("x-edition").is_none()).then_some(()))
    };
    eventually("theirs takes it", PATIENCE, theirs).await?;
    edge.api.delete(&format!("{GATEWAYS}/namespaces/later/httproutes/taker")).await?;
    edge.stack.publish_reaches(&publish, "active", PATIENCE).await?;
    let answer = edge.stack.answers(edge.address, OURS, "/", &[], 200).await?;
    assert_eq!(answer.header("x-edition"), Some("ours"));

    // Somebody deletes the policy: it is written again.
    let policy = format!("{ENVOY_GATEWAY}/namespaces/later/envoypatchpolicies/imp-gw");
    let uid = edge.api.get(&policy).await?["metadata"]["uid"].clone();
    edge.api.delete(&policy).await?;
    let is_new = |it: &Value| it["metadata"]["uid"].is_string() && it["metadata"]["uid"] != uid;
    edge.api.until(&policy, is_new).await?;
    edge.stack.answers(edge.address, OURS, "/", &[], 200).await?;

    edge.api.label(&edge.namespace, Value::Null).await?;
    edge.api.until(&policy, Value::is_null).await?;
    becomes(&edge, OURS, 404).await?;
    becomes(&edge, THEIRS, 200).await?;
    let proxy = format!("{ENVOY_GATEWAY}/namespaces/later/envoyproxies/imp-gw");
    assert!(!edge.api.get(&proxy).await?.is_null(), "the Gateway names it still");
    Ok(())
}
