//! Calls of the agent's port for Envoys.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result};
use envoy_types::pb::envoy::service::auth::v3 as auth;
use imp_xds::wire::{DeltaDiscoveryRequest, Node};
use prost::Message as _;
use serde::Deserialize;
use serde_json::Value;

use super::Outcome;
use super::grpc::{self, Call, Place, Said, framed};
use super::stage::Stage;
use super::wire::unhex;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// `check`, `ads`, a path, or `stranger`.
    method: String,
    /// For a check: the route's context, and the caller's headers.
    #[serde(default)]
    context: HashMap<String, String>,
    #[serde(default)]
    http: HashMap<String, String>,
    /// For a stream: `node.id` and `node.cluster`.
    #[serde(default)]
    node: (String, String),
    #[serde(default)]
    types: Vec<String>,
    hex: Option<String>,
    /// The message announces this many bytes, sends half of them, and stops.
    unfinished: Option<usize>,
    /// How often.
    #[serde(default = "once")]
    times: usize,
    /// `allowed`, `denied`, or how the call ended.
    expect: Vec<String>,
    #[serde(default = "wait")]
    wait_ms: u64,
}

fn once() -> usize {
    1
}

fn wait() -> u64 {
    10_000
}

pub(crate) async fn run(stage: &mut Stage, case: Value) -> Result<Outcome> {
    let shown = case.to_string();
    let case: Case = serde_json::from_value(case).with_context(|| shown)?;
    if case.method == "stranger" {
        return stranger(stage);
    }
    let (path, message) = message(&case);
    let (body, ends) = match (&case.hex, case.unfinished) {
        (Some(hex), _) => (unhex(hex), true),
        (None, Some(size)) => {
            let length = u32::try_from(size)?.to_be_bytes();
            ([&[0], length.as_slice(), &vec![b'a'; size / 2]].concat(), false)
        }
        (None, None) => (message, true),
    };
    let place = Place::Unix(stage.stack.agent.xds.clone());
    let mut judged = Ok(());
    for _ in 0..case.times {
        let wait = Duration::from_millis(case.wait_ms);
        let (path, body) = (path.clone(), body.clone());
        let said = grpc::call(&place, Call { path, headers: Vec::new(), body, ends, wait }).await;
        let outcome = decided(&case, &said).unwrap_or_else(|| said.outcome.clone());
        if !case.expect.contains(&outcome) {
            judged = Err(format!("wanted {:?}, got {outcome}", case.expect));
        }
    }
    Ok(Outcome::of(case.times, judged))
}

/// Another user of this machine, who sends HTTP/2's preface and waits for an answer.
const STRANGER: &str = "import socket, sys
s = socket.socket(socket.AF_UNIX)
s.settimeout(5)
s.connect(sys.argv[1])
s.send(b'PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n' + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
sys.exit(0 if s.recv(1) else 1)";

/// Only root can switch users; otherwise the case is skipped.
fn stranger(stage: &Stage) -> Result<Outcome> {
    const NOBODY: u32 = 65_534;
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        println!("no stranger: only root can become one");
        return Ok(Outcome { calls: 0, failure: None });
    }
    let mut python = std::process::Command::new("python3");
    python.args(["-c", STRANGER]).arg(&stage.stack.agent.xds).uid(NOBODY).gid(NOBODY);
    let served = python.output()?.status.success();
    let result = if served { Err("a stranger is served".to_owned()) } else { Ok(()) };
    Ok(Outcome::of(1, result))
}

fn decided(case: &Case, said: &Said) -> Option<String> {
    if case.method != "check" || said.outcome != "ok" {
        return None;
    }
    let answer = auth::CheckResponse::decode(said.body.get(5..)?).ok()?;
    let allowed = answer.status.is_some_and(|status| status.code == 0);
    Some(if allowed { "allowed" } else { "denied" }.to_owned())
}

fn message(case: &Case) -> (String, Vec<u8>) {
    match case.method.as_str() {
        "check" => {
            use auth::attribute_context::{HttpRequest, Request};
            let http = HttpRequest { headers: case.http.clone(), ..Default::default() };
            let attributes = auth::AttributeContext {
                request: Some(Request { http: Some(http), ..Default::default() }),
                context_extensions: case.context.clone(),
                ..Default::default()
            };
            let message = auth::CheckRequest { attributes: Some(attributes) };
            let path = "/envoy.service.auth.v3.Authorization/Check";
            (path.to_owned(), framed(&message.encode_to_vec()))
        }
        "ads" => {
            let (id, cluster) = case.node.clone();
            let node = Node { id, cluster, ..Default::default() };
            let request = |type_url: &String| DeltaDiscoveryRequest {
                node: Some(node.clone()),
                type_url: type_url.clone(),
                ..Default::default()
            };
            let messages = case.types.iter().flat_map(|t| framed(&request(t).encode_to_vec()));
            let path =
                "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";
            (path.to_owned(), messages.collect())
        }
        path => (path.to_owned(), Vec::new()),
    }
}
