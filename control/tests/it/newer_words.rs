//! Words that a newer release stored: shown, kept, refused in requests, and no reason for agents to
//! drop or loosen anything.

use imp_control::compile::message::{self, MessageError};
use imp_core::gateway::Gateway;
use imp_core::product_publish::FrozenApiService;
use imp_core::scope::TenantScope;
use imp_core::stored;
use imp_proto::config::ResourceType;
use imp_store::compile::{self, Which};
use imp_store::testing::{Database, Kind, execute};
use imp_store::{Record as _, Store};
use rstest::rstest;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::control_plane::{ControlPlane, Shop};

/// Replaces a word in a JSON column of every row.
async fn replace(store: &Store, kind: Kind, table: &str, column: &str, words: [&str; 2]) {
    let [old, new] = words;
    let text = format!("replace(CAST({column} AS TEXT), '\"{old}\"', '\"{new}\"')");
    let text = if kind == Kind::Postgres { format!("CAST({text} AS JSONB)") } else { text };
    let sql = format!("UPDATE {table} SET {column} = {text}");
    execute(store, Box::leak(sql.into_boxed_str())).await.unwrap();
}

/// What a newer release may have stored: table, column, one of our words, an unknown one.
const NEWER: &[(&str, &str, [&str; 2])] = &[
    ("api_services", "backends", ["round_robin", "ring_hash"]),
    ("api_services", "backends", ["http1", "http3"]),
    ("api_services", "routes", ["prefix", "glob"]),
    ("api_services", "policies", ["minute", "week"]),
    ("product_publish_revisions", "api_services", ["round_robin", "ring_hash"]),
    ("plans", "rate_limit", ["minute", "week"]),
    ("plan_versions", "terms", ["minute", "week"]),
    ("gateways", "listeners", ["HTTP", "QUIC"]),
    ("api_tokens", "roles", ["org-admin", "auditor"]),
];

async fn write_newer(store: &Store, kind: Kind) {
    for (table, column, words) in NEWER {
        replace(store, kind, table, column, *words).await;
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_of_a_newer_release_are_shown_and_hurt_nothing(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let database = Database::fresh(kind).await.unwrap();
    let plane = ControlPlane::start_on(Some(database.url())).await;
    let shop = Shop::open(&plane, "acme").await;
    let mut agent = Agent::start(&plane, shop.id("clusters")).await;
    agent.held.reach([1, 1, 1, 1]).await;
    let before: Vec<_> = ResourceType::ALL.iter().map(|of| agent.held.versions(*of)).collect();
    write_newer(&plane.running.store, kind).await;
    let plane = plane.restart(Some(database.url())).await;
    agent.held.take_log();
    agent.follow(plane.running.agent_addr).await;
    let operator = &plane.admin;

    // Shown, alone and in lists.
    let shown = |kind: &'static str, pointer: &'static str| {
        let (operator, path) = (operator.clone(), shop.path(kind));
        async move {
            let one = operator.get(&path).await.ok();
            let list = operator.get(&format!("/v1/{kind}")).await.ok();
            assert!(list["items"].as_array().unwrap().iter().any(|it| it["id"] == one["id"]));
            one.pointer(pointer).cloned().unwrap_or_default()
        }
    };
    assert_eq!(shown("api-services", "/backends/0/lb_policy").await, "ring_hash");
    assert_eq!(shown("api-services", "/backends/0/protocol").await, "http3");
    assert_eq!(shown("api-services", "/routes/0/path").await, json!({ "glob": "/payments" }));
    assert_eq!(shown("api-services", "/policies/0/config/per").await, "week");
    assert_eq!(shown("gateways", "/listeners/0/protocol").await, "QUIC");
    assert_eq!(shown("plans", "/rate_limit/per").await, "week");
    assert_eq!(shown("api-tokens", "/roles").await, json!(["auditor"]));

    // Unchecked content cannot be written.
    for (kind, pointer) in [
        ("api-services", "/backends/0/protocol"),
        ("gateways", "/listeners/0/protocol"),
        ("plans", "/rate_limit/per"),
    ] {
        let edit = operator.patch(&shop.path(kind), json!({ "description": "new" })).await;
        assert_eq!((edit.status.as_u16(), edit.code()), (400, "invalid_value"), "{:?}", edit.body);
        let told = edit.body["errors"][0]["pointer"].as_str().unwrap();
        assert!(told == pointer || told.starts_with("/backends/0"), "{told}");
    }
    let publish = shop.path("product-publishes");
    let redeploy = operator.step(&format!("{publish}/redeploy")).await;
    redeploy.refused(409, "unknown_value", "");

    // Agents keep what they have; only the suspension is sent.
    operator.step(&format!("{publish}/suspend")).await.ok();
    agent.held.one(|it: &imp_proto::config::Publish| it.suspended).await;
    assert_eq!(agent.held.take_log(), [format!("+{}", shop.id("product-publishes"))]);
    let now = ResourceType::ALL.iter().map(|of| agent.held.versions(*of));
    let changed: Vec<_> = now.zip(&before).map(|(now, before)| now != *before).collect();
    assert_eq!(changed.iter().filter(|changed| **changed).count(), 1, "{changed:?}");

    // It can be deleted.
    assert_eq!(operator.delete(&publish).await.status, 204);
    agent.held.reach([0, 0, 0, 0]).await;
    assert_eq!(operator.delete(&shop.path("gateways")).await.status, 204);
    assert_eq!(operator.delete(&shop.path("api-tokens")).await.status, 204);
}

/// Every field of a service that has one of several words or shapes.
#[test]
fn a_gateway_is_told_nothing_of_a_service_with_a_word_of_a_newer_release() {
    let corpus = include_str!("../../core/tests/corpus/frozen_api_services.jsonl");
    let mut refused = 0;
    for document in corpus.lines() {
        let document: Value = serde_json::from_str(document).unwrap();
        let mut found = Vec::new();
        places(&document, "", &mut found);
        for place in found {
            let mut newer = document.clone();
            let at = newer.pointer_mut(&place).unwrap();
            *at = match at.as_object().and_then(|fields| fields.values().next()) {
                Some(value) => json!({ "moon": value }),
                None => json!("moon"),
            };
            let strict = serde_json::from_str::<Vec<FrozenApiService>>(&newer.to_string());
            if !strict.is_err_and(|error| error.to_string().contains("unknown variant `moon`")) {
                continue;
            }
            let frozen: Vec<FrozenApiService> = stored::read(&newer.to_string()).unwrap();
            let told = message::api_service(&frozen[0], &mut Default::default());
            let unknown = |error: &MessageError| match error {
                MessageError::UnknownWord { word, .. } => *word == "moon",
                MessageError::UnknownPolicy { kind, .. } => kind == "moon",
                MessageError::UnknownBackend(_)
                | MessageError::UnknownTimeZone(_)
                | MessageError::UnreadableTerms(_) => false,
            };
            assert!(told.is_err_and(|error| unknown(&error)), "{place}");
            refused += 1;
        }
    }
    assert!(refused > 10, "{refused}");
}

fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::String(_) => found.push(at.to_owned()),
        Value::Object(fields) => {
            if fields.len() == 1 {
                found.push(at.to_owned());
            }
            fields.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), found));
        }
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.for_each(|(index, value)| places(value, &format!("{at}/{index}"), found));
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terms_and_listeners_of_a_newer_release_are_not_told() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let store = &plane.running.store;
    write_newer(store, Kind::Sqlite).await;
    let id = shop.id("gateways").parse().unwrap();
    let gateway = Gateway::get(store, &TenantScope::platform(), id).await.unwrap().unwrap();
    let refused = message::gateway(&gateway).unwrap_err().to_string();
    assert_eq!(refused, "protocol: this release does not know 'QUIC'");
    let id = shop.id("subscriptions").parse().unwrap();
    let rows = compile::subscriptions(store, Which::Ids(&[id])).await.unwrap();
    let terms = rows[0].content.as_ref().unwrap();
    let now = imp_process::clock::now();
    let refused = message::entitlement(terms, now).unwrap_err().to_string();
    assert_eq!(refused, "window: this release does not know 'week'");
}
