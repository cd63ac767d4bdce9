//! The catalogue for customers, and what conflicts reveal.

use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::control_plane::{Caller, ControlPlane, Shop};

async fn ids(caller: &Caller, path: &str) -> Vec<String> {
    let list = caller.get(path).await.ok();
    let id = |item: &Value| item["id"].as_str().unwrap().to_owned();
    list["items"].as_array().unwrap().iter().map(id).collect()
}

#[rstest]
#[tokio::test]
async fn drafts_are_invisible_to_customers(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (provider, customer) = (&shop.provider, &shop.customer);
    let draft = json!({ "name": "next", "visibility": "public", "status": "draft" });
    let product = provider.make("products", draft).await;
    let product_id = product["id"].as_str().unwrap();
    let plan = json!({ "name": "p", "product_id": product_id });
    let hidden = provider.make("plans", plan).await;
    let plan = json!({ "name": "soon", "product_id": shop.id("products"), "status": "draft" });
    let soon = provider.make("plans", plan).await;
    assert_eq!(ids(customer, "/v1/products").await, [shop.id("products")]);
    assert_eq!(ids(customer, "/v1/plans").await, [shop.id("plans")]);
    for filter in ["status=draft", "name=next", "name=soon"] {
        assert!(ids(customer, &format!("/v1/products?{filter}")).await.is_empty(), "{filter}");
        assert!(ids(customer, &format!("/v1/plans?{filter}")).await.is_empty(), "{filter}");
    }
    assert!(ids(customer, &format!("/v1/plans?product_id={product_id}")).await.is_empty());
    for path in [
        format!("/v1/products/{product_id}"),
        "/v1/products/next".to_owned(),
        format!("/v1/plans/{}", hidden["id"].as_str().unwrap()),
        format!("/v1/plans/{}", soon["id"].as_str().unwrap()),
        "/v1/plans/soon".to_owned(),
    ] {
        customer.get(&path).await.refused(404, "not_found", "");
    }
    let mut body = shop.subscription();
    body["environment"] = json!("dev");
    body["plan_id"] = soon["id"].clone();
    let answer = customer.post("/v1/subscriptions", body.clone()).await;
    answer.refused(422, "unknown_reference", "/plan_id");
    let subscription = shop.path("subscriptions");
    let answer = customer.patch(&subscription, json!({ "plan_id": soon["id"] })).await;
    answer.refused(422, "unknown_reference", "/plan_id");
    body["product_id"] = json!(product_id);
    body["plan_id"] = hidden["id"].clone();
    let answer = customer.post("/v1/subscriptions", body.clone()).await;
    answer.refused(422, "unknown_reference", "/product_id");
    // A publish of it does not reveal it, either.
    let mut publish = shop.publish("next.example.com");
    publish["product_id"] = json!(product_id);
    publish["api_services"] = json!([shop.id("api-services")]);
    let publish = provider.make("product-publishes", publish).await;
    let pinned = json!({
        "customer_id": shop.id("customers"), "plan_id": hidden["id"],
        "product_publish_id": publish["id"],
    });
    let answer = customer.post("/v1/subscriptions", pinned).await;
    answer.refused(422, "unknown_reference", "/product_publish_id");

    provider.step(&format!("/v1/products/{product_id}/activate")).await.ok();
    customer.get(&format!("/v1/products/{product_id}")).await.ok();
    customer.make("subscriptions", body).await;
}

#[tokio::test]
async fn what_is_closed_stays_as_it_is() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let provider = &shop.provider;
    let product = provider.make("products", json!({ "name": "old" })).await;
    let product = format!("/v1/products/{}", product["id"].as_str().unwrap());
    let plan = json!({ "name": "p", "product_id": product.rsplit('/').next(), "status": "draft" });
    let plan = provider.make("plans", plan).await;
    let plan = format!("/v1/plans/{}", plan["id"].as_str().unwrap());
    provider.step(&format!("{plan}/close")).await.ok();
    provider.step(&format!("{product}/deprecate")).await.ok();
    provider.step(&format!("{product}/close")).await.ok();
    for path in [&plan, &product] {
        for verb in ["activate", "deprecate", "close"] {
            let answer = provider.step(&format!("{path}/{verb}")).await;
            answer.refused(409, "invalid_transition", "");
        }
        let answer = provider.patch(path, json!({ "description": "again" })).await;
        answer.refused(409, "invalid_transition", "");
    }
    let mut publish = shop.publish("old.example.com");
    publish["product_id"] = json!(product.rsplit('/').next());
    let answer = provider.post("/v1/product-publishes", publish).await;
    answer.refused(409, "product_closed", "/product_id");
}

/// T03: names are unique within their owner, so that a conflict reveals nothing of other tenants.
#[tokio::test]
async fn names_of_another_tenant_are_free() {
    let plane = ControlPlane::start().await;
    // Both shops use the same names for everything that has one.
    let (acme, _other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    let rival = acme.provider.make("customers", json!({ "name": "Rival" })).await;
    let caller = crate::control_plane::CUSTOMER;
    let rival_id = rival["id"].as_str().unwrap();
    let caller = plane.token(Some(acme.id("tenants")), Some(rival_id), &caller).await;
    let app = json!({ "customer_id": rival_id, "name": "web shop" });
    caller.make("client-apps", app).await;
    // Only hostnames are shared; such a conflict does not name the other tenant.
    let other = json!({ "name": "third", "slug": "third" });
    let third = plane.admin.make("tenants", other).await;
    let third = plane.token(third["id"].as_str(), None, &crate::control_plane::PROVIDER).await;
    let service = third.make("api-services", crate::control_plane::payment_service()).await;
    let gateway = third.make("gateways", crate::control_plane::public_gateway()).await;
    let product = json!({ "name": "p", "api_services": [service["id"]] });
    let product = third.make("products", product).await;
    let body = json!({
        "product_id": product["id"], "gateway_id": gateway["id"], "environment": "prod",
        "cluster_id": acme.id("clusters"), "auth_mode": "none", "hostnames": [acme.host],
    });
    let answer = third.post("/v1/product-publishes", body).await;
    assert!(answer.status.is_client_error());
    let text = answer.body.to_string();
    for secret in [acme.id("product-publishes"), acme.id("tenants"), "\"acme\""] {
        assert!(!text.contains(secret), "{text}");
    }
}
