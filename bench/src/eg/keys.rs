//! One API key more, where many routes ask for many keys.

use std::time::Instant;

use anyhow::Result;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Plan;
use super::changes::Block;
use super::ours::{self, Ours};
use super::side::{Shape, Side};
use super::theirs::Theirs;
use super::watch::{milliseconds, surely};
use crate::kube::{ENVOY_GATEWAY, Edge};
use crate::rest::text;
use crate::sample::Buyer;

const NAMESPACE: &str = "keys";

/// The Secret with the keys of callers.
const SECRET: &str = "callers";

/// Writers while keys are made.
const WRITERS: usize = 4;

/// What adding a key took.
#[derive(Debug, Serialize)]
pub struct Keys {
    pub routes: usize,
    pub keys: usize,
    pub theirs: Block,
    /// The bytes are those of xDS as the agent counts them: Envoy counts decisions about calls in the same place.
    pub ours: Block,
}

pub(super) async fn measure(plan: &Plan, say: &impl Fn(&str)) -> Result<Keys> {
    say("keys: starting");
    let options = ours::options();
    let edge = Edge::start_with(NAMESPACE, &options).await?;
    let theirs = Theirs::start(&edge, Shape::Hosts).await?;
    say("keys: loading theirs");
    theirs.load(0..plan.keyed).await?;
    guard(&edge, plan.keys).await?;
    let request = theirs.place(0).request(Some(&key(0)));
    surely(edge.address, theirs.place(0).request(None), 401).await?;
    surely(edge.address, request, 200).await?;
    say("keys: loading ours");
    let ours = Ours::start(&edge, Shape::Hosts, 1, 0).await?;
    let (buyer, consumer) = buyer(&edge, &ours, plan).await?;
    theirs.rests().await?;
    say("keys: adding");
    let theirs_block = of_theirs(&theirs, plan).await?;
    let ours_block = of_ours(&ours, &buyer, &consumer, plan.added_keys * 3).await?;
    edge.api.clear(NAMESPACE).await?;
    theirs.rests().await?;
    let (routes, keys) = (plan.keyed, plan.keys);
    Ok(Keys { routes, keys, theirs: theirs_block, ours: ours_block })
}

fn key(index: usize) -> String {
    // As long as ours.
    format!("imp_{index:0>48}")
}

fn named(range: std::ops::Range<usize>) -> Value {
    let entry = |index| (format!("client-{index}"), Value::from(key(index)));
    Value::Object(range.map(entry).collect::<Map<_, _>>())
}

fn secret() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/secrets/{SECRET}")
}

/// Keys, and a policy of the Gateway that asks for one.
async fn guard(edge: &Edge, keys: usize) -> Result<()> {
    let object = json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": NAMESPACE}, "stringData": named(0..keys),
    });
    edge.api.apply(&secret(), &object).await?;
    let gateway = json!({"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gw"});
    let policy = json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1", "kind": "SecurityPolicy",
        "metadata": {"name": "keys", "namespace": NAMESPACE},
        "spec": {
            "targetRefs": [gateway],
            "apiKeyAuth": {
                "credentialRefs": [{"name": SECRET}], "extractFrom": [{"headers": ["x-api-key"]}],
            },
        },
    });
    let path = format!("{ENVOY_GATEWAY}/namespaces/{NAMESPACE}/securitypolicies/keys");
    edge.api.apply(&path, &policy).await?;
    Ok(())
}

async fn of_theirs(theirs: &Theirs<'_>, plan: &Plan) -> Result<Block> {
    let (edge, place) = (theirs.edge(), theirs.place(0));
    let (mut block, before) = (Block::default(), (theirs.cpu()?, theirs.bytes().await?));
    for index in plan.keys..plan.keys + plan.added_keys {
        let (fields, sent) = (json!({"stringData": named(index..index + 1)}), Instant::now());
        edge.api.patch(&secret(), &fields).await?;
        let answered = Instant::now();
        let seen = surely(edge.address, place.request(Some(&key(index))), 200).await?;
        push(&mut block, [sent, answered, seen]);
        theirs.rests().await?;
    }
    let cpu = theirs.cpu()?.saturating_sub(before.0);
    let number = plan.added_keys as f64;
    block.cpu = cpu.as_secs_f64() * 1_000.0 / number;
    block.bytes = theirs.bytes().await?.saturating_sub(before.1) as f64 / number;
    Ok(block)
}

/// Publishes that ask for keys, and keys; returns who can get one more.
async fn buyer(edge: &Edge, ours: &Ours<'_>, plan: &Plan) -> Result<(Buyer, Value)> {
    let product = ours.product(0)?;
    let rest = &edge.provider.rest;
    let publish = async |index| {
        let spec = edge.provider.publish_spec(product, &ours.place(index).host, "api_key");
        rest.post("/v1/product-publishes", &spec).await.map(drop)
    };
    stream::iter(0..plan.keyed).map(publish).buffer_unordered(WRITERS).try_collect::<()>().await?;
    let terms = edge.provider.plan(product, 1_000_000_000).await?;
    let buyer = Buyer::create(&edge.provider, "shop").await?;
    let first = buyer.buy(product, &terms).await?;
    let known = buyer.rest.get(&format!("/v1/credentials/{}", first.credential_id)).await?;
    let consumer = json!({"consumer_id": text(&known, "consumer_id")?});
    let create = async |_| buyer.rest.post("/v1/credentials", &consumer).await.map(drop);
    stream::iter(1..plan.keys).map(create).buffer_unordered(WRITERS).try_collect::<()>().await?;
    let last = ours.place(plan.keyed.saturating_sub(1));
    surely(edge.address, last.request(Some(&first.text)), 200).await?;
    Ok((buyer, consumer))
}

async fn of_ours(ours: &Ours<'_>, buyer: &Buyer, consumer: &Value, added: usize) -> Result<Block> {
    ours.rests().await?;
    let (edge, place, mut block) = (ours.edge(), ours.place(0), Block::default());
    let sent_bytes = async || edge.stack.agent.metric("xds_sent_bytes_total").await;
    let before = (ours.cpu()?, sent_bytes().await?);
    for _ in 0..added {
        let sent = Instant::now();
        let made = buyer.rest.post("/v1/credentials", consumer).await?;
        let answered = Instant::now();
        let request = place.request(Some(&text(&made, "api_key")?));
        push(&mut block, [sent, answered, surely(edge.address, request, 200).await?]);
    }
    ours.rests().await?;
    let cpu = ours.cpu()?.saturating_sub(before.0);
    block.cpu = cpu.as_secs_f64() * 1_000.0 / added as f64;
    block.bytes = (sent_bytes().await? - before.1) / added as f64;
    Ok(block)
}

fn push(block: &mut Block, [sent, answered, seen]: [Instant; 3]) {
    block.seen.0.push(milliseconds(sent, seen));
    block.answered.0.push(milliseconds(sent, answered));
}
