//! Rows of a newer release, read by this one.

use imp_control::compile::message::{self, MessageError};
use imp_core::api_service::{ApiService, ApiServiceSpec};
use imp_core::product_publish::{FrozenApiService, ProductPublish, PublishStatus};
use imp_core::scope::TenantScope;
use imp_core::{ApiServiceId, ProductPublishId, stored};
use imp_proto::config as pb;
use imp_store::Record as _;
use imp_store::compile::{self, DesiredPublish, Which};
use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Shop, payment_service};

/// A spec as a newer release stores it.
fn newer() -> ApiServiceSpec {
    let mut service = payment_service();
    let newer = json!({ "name": "door", "type": "teleport", "config": { "to": ["x"] } });
    service["policies"].as_array_mut().unwrap().push(newer);
    service["routes"][0]["of_a_newer_release"] = json!(true);
    stored::read(&service.to_string()).unwrap()
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_this_release_does_not_know_is_shown_and_enters_no_publish(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (store, all) = (&plane.running.store, TenantScope::platform());
    let id: ApiServiceId = shop.id("api-services").parse().unwrap();
    let mut service = ApiService::get(store, &all, id).await.unwrap().unwrap();
    let expected = service.meta.version;
    service.spec = newer();
    service.meta.version += 1;
    let mut tx = store.begin().await.unwrap();
    service.update(&mut tx, expected).await.unwrap();
    tx.commit().await.unwrap();

    let (path, provider) = (shop.path("api-services"), &shop.provider);
    let shown = provider.get(&path).await.ok();
    let policy = &shown["policies"][1];
    assert_eq!((&policy["type"], &policy["config"]), (&json!("teleport"), &json!({ "to": ["x"] })));
    assert_eq!(provider.get("/v1/api-services").await.ok()["items"].as_array().unwrap().len(), 1);
    // An edit here would write what nobody has checked.
    let edit = provider.patch(&path, json!({ "description": "new" })).await;
    assert_eq!((edit.status.as_u16(), edit.code()), (400, "invalid_value"), "{:?}", edit.body);
    assert!(edit.body["errors"][0]["pointer"].as_str().unwrap().starts_with("/policies/1"));
    // Removing it is an edit like any other, once no publish needs it.
    let publish = shop.path("product-publishes");
    let redeploy = format!("{publish}/redeploy");
    provider.step(&redeploy).await.refused(409, "unknown_policy_type", "");
    let served = provider.get(&publish).await.ok();
    assert_eq!(served["desired_revision"], 1, "what is served stays");
    let known: Value = shown["policies"][0].clone();
    provider.patch(&path, json!({ "policies": [known] })).await.ok();
    assert_eq!(provider.step(&redeploy).await.ok()["desired_revision"], 2);
}

#[test]
fn a_gateway_is_told_nothing_of_a_service_with_an_unknown_policy() {
    let frozen = FrozenApiService { id: ApiServiceId::new(), revision: 1, spec: newer() };
    let refused = message::api_service(&frozen, &mut Default::default()).unwrap_err();
    let MessageError::UnknownPolicy { policy, kind, .. } = &refused else { panic!("{refused}") };
    assert_eq!((policy.as_str(), kind.as_str()), ("door", "teleport"));
}

/// A service with such a policy must not be served without it; suspended, nothing is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_a_publish_is_suspended_is_told_whatever_its_policies_are() {
    let plane = ControlPlane::on(Kind::Sqlite).await;
    let shop = Shop::open(&plane, "acme").await;
    let id: ProductPublishId = shop.id("product-publishes").parse().unwrap();
    let rows = compile::publishes(&plane.running.store, Which::Ids(&[id])).await.unwrap();
    let mut desired = rows.into_iter().next().unwrap().content.unwrap();
    desired.api_services[0].spec = newer();
    let refused = message::served(&desired).unwrap_err();
    assert!(matches!(refused, MessageError::UnknownPolicy { .. }), "{refused}");
    desired.status = PublishStatus::Suspended;
    let told = message::served(&desired).unwrap();
    assert!(told.suspended && told.policies.iter().all(|policy| policy.kind.is_some()));
    // What is measured before it is stored is refused in either state.
    assert!(message::publish(&desired).is_err());
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_this_release_does_not_know_is_shown_and_left_alone(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (store, all) = (&plane.running.store, TenantScope::platform());
    let id: ProductPublishId = shop.id("product-publishes").parse().unwrap();
    let mut publish = ProductPublish::get(store, &all, id).await.unwrap().unwrap();
    publish.status = stored::read_word("degraded").unwrap();
    let expected = publish.meta.version;
    publish.meta.version += 1;
    let mut tx = store.begin().await.unwrap();
    publish.update(&mut tx, expected).await.unwrap();
    tx.commit().await.unwrap();
    let (path, provider) = (shop.path("product-publishes"), &shop.provider);
    let shown = provider.get(&path).await.ok();
    assert_eq!(shown["status"], "degraded");
    assert_eq!(provider.get("/v1/product-publishes").await.ok()["items"], json!([shown]));
    for step in ["suspend", "resume", "redeploy"] {
        let answer = provider.step(&format!("{path}/{step}")).await;
        answer.refused(409, "invalid_transition", "");
    }
    let filter = provider.get("/v1/product-publishes?status=degraded").await;
    assert_eq!(filter.status, 400, "callers name the states that this release knows");
    assert_eq!(provider.get(&path).await.ok(), shown);
}

#[test]
fn a_gateway_is_told_nothing_of_a_publish_with_a_word_of_a_newer_release() {
    let id = "01940000-0000-7000-8000-000000000007";
    let spec = |field: &str| {
        let mut spec = json!({
            "product_id": id, "gateway_id": id, "cluster_id": id, "environment": "prod",
            "auth_mode": "none", "hostnames": ["a.example.com"], "delivery": "auto",
        });
        if !field.is_empty() {
            spec[field] = json!("moon");
        }
        stored::read(&spec.to_string()).unwrap()
    };
    let told = |field: &str, status| {
        message::served(&DesiredPublish {
            id: id.parse().unwrap(),
            tenant_id: id.parse().unwrap(),
            status,
            revision: 1,
            spec: spec(field),
            api_services: vec![],
            kept_out_hosts: vec![],
        })
    };
    assert!(told("", PublishStatus::Active).is_ok());
    for field in ["environment", "auth_mode", "delivery"] {
        let refused = told(field, PublishStatus::Active).unwrap_err().to_string();
        assert_eq!(refused, format!("{field}: this release does not know 'moon'"));
        let told = told(field, PublishStatus::Suspended).unwrap();
        assert!(told.suspended && told.auth_mode() != pb::publish::AuthMode::Unspecified);
    }
}
