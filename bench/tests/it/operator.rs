//! PRD flow 4.3: an operator registers a cluster, an agent connects, publishes are watched.

use std::process::Command;

use anyhow::{Context as _, Result};
use imp_bench::process::eventually;
use imp_bench::sample::Provider;
use imp_bench::stack::{Options, PATIENCE, Stack, program, registration_token};
use serde_json::{Value, json};

use crate::alone::side_by_side;

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_sees_agents_envoys_and_publishes() -> Result<()> {
    let _turn = side_by_side().await;
    let mut stack = Stack::start(Options::default()).await?;
    let provider = Provider::create(&stack, "acme").await?;
    let echo = provider.echo(&stack, "one").await?;
    let publish = provider.publish(&echo.product_id, "one.example.com", "none").await?;
    stack.publish_reaches(&publish, "active", PATIENCE).await?;
    counts_reach(&stack, &publish, 1).await?;

    let path = format!("/v1/clusters/{}/agents", stack.cluster_id);
    let agents = stack.admin.get(&path).await?;
    let agent = agents["items"].get(0).cloned().context("no agent")?;
    assert_eq!(agent["status"], "connected", "{agent}");
    eventually("the agent reports its Envoy", PATIENCE, async || {
        let member = format!("{path}/{}", agent["id"].as_str().unwrap_or_default());
        let nodes = stack.admin.get(&member).await?["nodes"].as_array().map_or(0, Vec::len);
        Ok((nodes == 1).then_some(()))
    })
    .await?;
    if let Some(mut envoy) = stack.envoys.pop() {
        envoy.kill();
    }
    counts_reach(&stack, &publish, 0).await
}

async fn counts_reach(stack: &Stack, publish: &str, acked: u64) -> Result<()> {
    let path = format!("/v1/product-publishes/{publish}");
    let mut last = Value::Null;
    let reached = eventually("node counts", PATIENCE, async || {
        last = stack.admin.get(&path).await?;
        let wanted = json!({ "acked": acked, "nacked": 0, "behind": 0 });
        Ok((last["nodes"] == wanted).then_some(()))
    })
    .await;
    reached.with_context(|| last.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_token_opens_once_and_the_agent_says_so_in_one_line() -> Result<()> {
    let _turn = side_by_side().await;
    let stack = Stack::start(Options { envoy: false, ..Options::default() }).await?;
    let fresh = registration_token(&stack.admin, &stack.cluster_id).await?;
    let mut wrong = fresh.clone();
    wrong.replace_range(wrong.len() - 1.., if wrong.ends_with('0') { "1" } else { "0" });
    let used = used_token(&stack).await?;
    for token in [wrong, used, "nonsense".to_owned()] {
        let state = tempfile::tempdir()?;
        let output = Command::new(program("imp-agent")?)
            .args(["--control", &format!("http://{}", stack.control.agent_listen)])
            .args(["--admin-listen", "127.0.0.1:0"])
            .arg("--state-dir")
            .arg(state.path())
            .env("IMP_REGISTRATION_TOKEN", &token)
            .env("RUST_LOG", "off")
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert_eq!(said.trim().lines().count(), 1, "not one line:\n{said}");
        assert!(!said.contains(&token) || token == "nonsense", "the token is in the log: {said}");
    }
    Ok(())
}

/// The token that the stack's own agent registered with. Every used token of the cluster must be
/// invalid, so another one is used up by an agent that is killed at once.
async fn used_token(stack: &Stack) -> Result<String> {
    let token = registration_token(&stack.admin, &stack.cluster_id).await?;
    let folder = tempfile::tempdir()?;
    let agent =
        imp_bench::stack::Agent::start(folder.path(), &stack.control, Some(&token), &[]).await?;
    drop(agent);
    Ok(token)
}
