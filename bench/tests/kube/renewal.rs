//! The certificate by which a Gateway's Envoys are known to the agent is renewed under them.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use imp_bench::kube::{Edge, SYSTEM};
use imp_bench::process::eventually;
use imp_bench::sample::Buyer;
use imp_bench::stack::PATIENCE;
use serde_json::{Value, json};

use super::callers::Callers;

/// The serial number of a certificate.
fn serial(pem: &std::path::Path) -> Result<String> {
    let mut command = Command::new("openssl");
    let output = command.args(["x509", "-noout", "-serial", "-in"]).arg(pem).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let serial = text.trim().strip_prefix("serial=").context("no serial")?;
    Ok(serial.trim_start_matches('0').to_lowercase())
}

/// The serial numbers of all certificates that an Envoy has in use.
async fn in_use(edge: &Edge) -> Result<Vec<String>> {
    let all: Value = edge.pod()?.admin()?.json("certs").await?;
    let all = all["certificates"].as_array().into_iter().flatten();
    let chains = all.flat_map(|it| it["cert_chain"].as_array().into_iter().flatten());
    let serials = chains.filter_map(|it| it["serial_number"].as_str());
    Ok(serials.map(|serial| serial.trim_start_matches('0').to_lowercase()).collect())
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the Kubernetes stack: make test-kube"]
async fn envoys_take_a_renewed_certificate_and_no_call_fails() -> Result<()> {
    let mut edge = Edge::start("renewal").await?;
    let product = edge.provider.echo(&edge.stack, "ours").await?.product_id;
    for (host, mode) in [("open.example.com", "none"), ("keys.example.com", "api_key")] {
        let publish = edge.provider.publish(&product, host, mode).await?;
        edge.stack.publish_reaches(&publish, "active", PATIENCE).await?;
    }
    let plan = edge.provider.plan(&product, 1_000_000).await?;
    let key = Buyer::create(&edge.provider, "shop").await?.buy(&product, &plan).await?.text;
    let with_key = [("x-api-key", &*key)];
    edge.stack.answers(edge.address, "keys.example.com", "/", &with_key, 200).await?;
    let certificate = edge.pod()?.mounted("/imp/node").join("node.pem");
    let first = serial(&certificate)?;
    assert!(in_use(&edge).await?.contains(&first), "{first}");
    let callers = Callers::start(
        edge.address,
        &[
            ("open.example.com", None),
            ("keys.example.com", Some(&key)),
            ("theirs.example.com", None),
        ],
    );

    // A key that is not on disk yet would be unknown to the agent that starts again.
    eventually("everything is on disk", PATIENCE, async || {
        Ok((edge.stack.agent.metric("imp_lkg_behind_rows").await? == 0.0).then_some(()))
    })
    .await?;

    // It ends soon: the agent issues another one, as it would 120 days before the end.
    let secret = format!("/api/v1/namespaces/{SYSTEM}/secrets/imp-renewal.gw");
    let before = edge.api.get(&secret).await?;
    let soon = json!({"metadata": {"annotations": {"imp-gateway.io/valid-until": "2026-01-01T00:00:00Z"}}});
    edge.api.patch(&secret, &soon).await?;
    edge.stack.restart_agent().await?;
    let is_renewed = |it: &Value| it["data"]["node.pem"] != before["data"]["node.pem"];
    edge.api.until(&secret, is_renewed).await?;
    edge.pod()?.mount_again(&edge.api).await?;
    let second = serial(&certificate)?;
    assert_ne!(first, second);
    eventually("Envoy has the new one alone", PATIENCE, async || {
        let serials = in_use(&edge).await?;
        Ok((serials.contains(&second) && !serials.contains(&first)).then_some(()))
    })
    .await?;

    // New streams begin with it.
    edge.stack.restart_agent().await?;
    let later = edge.provider.publish(&product, "later.example.com", "none").await?;
    let active = edge.stack.publish_reaches(&later, "active", PATIENCE).await?;
    assert_eq!(active["nodes"]["acked"], 1, "{active}");
    edge.stack.answers(edge.address, "later.example.com", "/", &[], 200).await?;
    callers.end().await
}
