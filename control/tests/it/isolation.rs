//! Other tenants' objects do not exist.

use imp_core::role::{Kind, Role, any_allows};
use imp_store::testing::Kind as DatabaseKind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::control_plane::{CUSTOMER, ControlPlane, PROVIDER, Shop};
use crate::doors::operations;

fn roles(names: &[&str]) -> Vec<Role> {
    serde_json::from_value(json!(names)).unwrap()
}

#[tokio::test]
async fn another_tenants_object_is_not_there_at_any_endpoint() {
    let plane = ControlPlane::start().await;
    let (acme, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    let before = plane.everything().await;
    let mut tried = 0;
    for operation in operations() {
        let Some((kind, action)) = operation.needs.filter(|_| operation.path.contains("{id}"))
        else {
            continue;
        };
        // Clusters belong to the platform.
        if matches!(kind, Kind::Cluster | Kind::RegistrationToken) {
            continue;
        }
        let collection = operation.path.split('/').nth(2).unwrap();
        for (names, caller) in [(&PROVIDER[..], &acme.provider), (&CUSTOMER[..], &acme.customer)] {
            if any_allows(&roles(names), kind, action) {
                let answer = operation.call(caller, other.id(collection)).await;
                assert_eq!(answer.code(), "not_found", "{}: {:#}", operation.id, answer.body);
                assert_eq!(answer.status, 404);
                tried += 1;
            }
        }
    }
    assert!(tried > 70, "only {tried}");
    assert_eq!(plane.everything().await, before);
}

#[rstest]
#[tokio::test]
async fn another_tenants_object_cannot_be_referred_to(
    #[values(DatabaseKind::Sqlite, DatabaseKind::Postgres)] kind: DatabaseKind,
) {
    let plane = ControlPlane::on(kind).await;
    let (acme, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    let before = plane.everything().await;
    let foreign = |kind: &str| json!(other.id(kind));
    let with = |mut body: Value, field: &str, value: Value| {
        body[field] = value;
        body
    };
    let product = json!({ "name": "x", "api_services": [foreign("api-services")] });
    let plan = json!({ "name": "x", "product_id": foreign("products") });
    let publish = acme.publish("free.example.com");
    let subscription = acme.subscription();
    let app = json!({ "name": "x", "customer_id": foreign("customers") });
    let consumer = json!({
        "subscription_id": acme.id("subscriptions"), "client_app_id": acme.id("client-apps"),
    });
    let token = json!({
        "name": "x", "roles": ["api-consumer"], "customer_id": foreign("customers"),
    });
    let at = |kind: &'static str, body: &Value, field: &'static str, foreign_kind: &str| {
        (kind, with(body.clone(), field, foreign(foreign_kind)), format!("/{field}"))
    };
    let table = [
        ("products", product, "/api_services/0".to_owned()),
        ("plans", plan, "/product_id".to_owned()),
        at("product-publishes", &publish, "product_id", "products"),
        at("product-publishes", &publish, "gateway_id", "gateways"),
        at("subscriptions", &subscription, "customer_id", "customers"),
        at("subscriptions", &subscription, "product_id", "products"),
        at("subscriptions", &subscription, "plan_id", "plans"),
        at("subscriptions", &subscription, "product_publish_id", "product-publishes"),
        ("client-apps", app, "/customer_id".to_owned()),
        at("consumers", &consumer, "subscription_id", "subscriptions"),
        at("consumers", &consumer, "client_app_id", "client-apps"),
        ("credentials", json!({ "consumer_id": foreign("consumers") }), "/consumer_id".to_owned()),
        ("api-tokens", token, "/customer_id".to_owned()),
    ];
    for (kind, body, pointer) in table {
        let customers = ["client-apps", "consumers", "credentials"].contains(&kind);
        let caller = if customers { &acme.customer } else { &acme.provider };
        let answer = caller.post(&format!("/v1/{kind}"), body.clone()).await;
        answer.refused(422, "unknown_reference", &pointer);
        // An operator sees both tenants, but cannot connect them, either.
        let body = with(body, "tenant_id", json!(acme.id("tenants")));
        let answer = plane.admin.post(&format!("/v1/{kind}"), body).await;
        answer.refused(422, "unknown_reference", &pointer);
    }
    assert_eq!(plane.everything().await, before);
}

#[rstest]
#[tokio::test]
async fn lists_hold_ones_own_only(
    #[values(DatabaseKind::Sqlite, DatabaseKind::Postgres)] kind: DatabaseKind,
) {
    let plane = ControlPlane::on(kind).await;
    let (acme, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    let kinds = acme.objects.keys().filter(|kind| !["clusters", "tenants"].contains(kind));
    for kind in kinds {
        let list = acme.provider.get(&format!("/v1/{kind}")).await.ok();
        let owners: Vec<&Value> =
            list["items"].as_array().unwrap().iter().map(|item| &item["tenant_id"]).collect();
        assert!(!owners.is_empty(), "{kind}");
        assert!(owners.iter().all(|owner| **owner == json!(acme.id("tenants"))), "{kind}");
        let path = format!("/v1/{kind}?tenant_id={}", other.id("tenants"));
        acme.provider.get(&path).await.refused(404, "not_found", "");
    }
    let tenants = acme.provider.get("/v1/tenants").await.ok();
    assert_eq!(tenants["items"].as_array().unwrap().len(), 1);
}

#[rstest]
#[tokio::test]
async fn a_customer_sees_its_own_subscriptions_only(
    #[values(DatabaseKind::Sqlite, DatabaseKind::Postgres)] kind: DatabaseKind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let rival = shop.provider.make("customers", json!({ "name": "Rival" })).await;
    let rival_id = rival["id"].as_str().unwrap();
    let caller = plane.token(Some(shop.id("tenants")), Some(rival_id), &CUSTOMER).await;
    for kind in ["customers", "subscriptions", "client-apps", "consumers", "credentials"] {
        caller.get(&shop.path(kind)).await.refused(404, "not_found", "");
        let list = caller.get(&format!("/v1/{kind}")).await.ok();
        let seen = list["items"].as_array().unwrap().len();
        assert_eq!(seen, usize::from(kind == "customers"), "{kind}: {list:#}");
    }
    let body = json!({ "customer_id": shop.id("customers"), "name": "spy" });
    let answer = caller.post("/v1/client-apps", body).await;
    answer.refused(422, "unknown_reference", "/customer_id");
    let answer = caller.post("/v1/subscriptions", shop.subscription()).await;
    answer.refused(422, "unknown_reference", "/customer_id");
}

#[tokio::test]
async fn an_operator_says_for_which_tenant() {
    let plane = ControlPlane::start().await;
    let answer = plane.admin.post("/v1/customers", json!({ "name": "x" })).await;
    answer.refused(422, "required", "/tenant_id");
    let nobody = uuid::Uuid::now_v7();
    let answer =
        plane.admin.post("/v1/customers", json!({ "name": "x", "tenant_id": nobody })).await;
    answer.refused(422, "unknown_reference", "/tenant_id");
    let acme = Shop::open(&plane, "acme").await;
    let other = Shop::open(&plane, "other").await;
    let body = json!({ "name": "x", "tenant_id": other.id("tenants") });
    acme.provider.post("/v1/customers", body).await.refused(404, "not_found", "");
    let body = json!({ "name": "x", "tenant_id": acme.id("tenants") });
    acme.provider.make("customers", body).await;
}
