//! The life cycles of products, plans, subscriptions and credentials.

use serde_json::json;

use crate::control_plane::{ControlPlane, Shop};

#[tokio::test]
async fn a_subscriber_keeps_the_terms_it_bought() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let plan = shop.path("plans");
    let renamed = shop.provider.patch(&plan, json!({ "description": "words only" })).await.ok();
    assert_eq!(renamed["plan_version"], 1, "words make no new terms");
    let terms = json!({ "rate_limit": { "requests": 5, "per": "minute" } });
    assert_eq!(shop.provider.patch(&plan, terms).await.ok()["plan_version"], 2);
    let kept = shop.customer.get(&shop.path("subscriptions")).await.ok();
    assert_eq!(kept["plan_version"], 1);
    shop.customer.step(&format!("{}/cancel", shop.path("subscriptions"))).await.ok();
    let new = shop.customer.make("subscriptions", shop.subscription()).await;
    assert_eq!(new["plan_version"], 2);
}

#[tokio::test]
async fn products_and_plans_are_on_sale_between_activation_and_deprecation() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let provider = &shop.provider;
    let draft = json!({ "name": "draft", "product_id": shop.id("products"), "status": "draft" });
    let plan = provider.make("plans", draft).await;
    assert_eq!(plan["status"], "draft");
    let path = format!("/v1/plans/{}", plan["id"].as_str().unwrap());
    let mut body = shop.subscription();
    body["plan_id"] = plan["id"].clone();
    body["environment"] = json!("dev");
    shop.provider.post("/v1/subscriptions", body.clone()).await.refused(409, "not_on_sale", "");
    let hidden = shop.customer.post("/v1/subscriptions", body.clone()).await;
    hidden.refused(422, "unknown_reference", "/plan_id");
    provider.step(&format!("{path}/deprecate")).await.refused(409, "invalid_transition", "");
    assert_eq!(provider.step(&format!("{path}/activate")).await.ok()["status"], "active");
    let subscription = shop.customer.make("subscriptions", body.clone()).await;
    assert_eq!(provider.step(&format!("{path}/deprecate")).await.ok()["status"], "deprecated");
    shop.customer.post("/v1/subscriptions", body).await.refused(409, "not_on_sale", "");
    provider.step(&format!("{path}/close")).await.refused(409, "in_use", "");
    let cancel = format!("/v1/subscriptions/{}/cancel", subscription["id"].as_str().unwrap());
    assert_eq!(shop.customer.step(&cancel).await.ok()["status"], "cancelled");
    assert_eq!(provider.step(&format!("{path}/close")).await.ok()["status"], "closed");

    let product = shop.path("products");
    assert_eq!(provider.step(&format!("{product}/deprecate")).await.ok()["status"], "deprecated");
    provider.step(&format!("{product}/close")).await.refused(409, "in_use", "");
    provider.step(&format!("{product}/activate")).await.refused(409, "invalid_transition", "");
}

#[tokio::test]
async fn a_subscription_waits_for_approval_unless_the_plan_waives_it() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    assert_eq!(shop.objects["subscriptions"]["status"], "active");
    let plan = json!({ "name": "asked", "product_id": shop.id("products") });
    let plan = shop.provider.make("plans", plan).await;
    let mut body = shop.subscription();
    body["plan_id"] = plan["id"].clone();
    let mut path = async |environment: &str| {
        body["environment"] = json!(environment);
        let made = shop.customer.make("subscriptions", body.clone()).await;
        assert_eq!(made["status"], "pending");
        format!("/v1/subscriptions/{}", made["id"].as_str().unwrap())
    };
    let (one, two) = (path("dev").await, path("staging").await);
    shop.customer.step(&format!("{one}/approve")).await.refused(403, "forbidden", "");
    assert_eq!(shop.provider.step(&format!("{one}/approve")).await.ok()["status"], "active");
    shop.provider.step(&format!("{one}/approve")).await.refused(409, "invalid_transition", "");
    let nothing = shop.provider.step(&format!("{two}/reject")).await;
    assert_eq!(nothing.code(), "unsupported_media_type");
    shop.provider
        .post(&format!("{two}/reject"), json!({}))
        .await
        .refused(422, "required", "/reason");
    let no = json!({ "reason": "no licence" });
    let rejected = shop.provider.post(&format!("{two}/reject"), no).await.ok();
    assert_eq!(
        (&rejected["status"], &rejected["reason"]),
        (&json!("rejected"), &json!("no licence"))
    );

    let why = json!({ "reason": "unpaid" });
    let suspended = shop.provider.post(&format!("{one}/suspend"), why).await.ok();
    assert_eq!(
        (&suspended["status"], &suspended["reason"]),
        (&json!("suspended"), &json!("unpaid"))
    );
    let resumed = shop.provider.step(&format!("{one}/resume")).await.ok();
    assert_eq!((&resumed["status"], &resumed["reason"]), (&json!("active"), &json!("")));
    let cancelled = shop.customer.step(&format!("{one}/cancel")).await.ok();
    assert_eq!(cancelled["status"], "cancelled");
    assert!(cancelled["ends_at"].is_string());
    shop.provider.step(&format!("{one}/resume")).await.refused(409, "invalid_transition", "");
}

#[tokio::test]
async fn a_customer_cannot_move_itself_to_a_plan_that_needs_approval() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let plan = json!({ "name": "platinum", "product_id": shop.id("products") });
    let plan = shop.provider.make("plans", plan).await;
    let body = json!({ "plan_id": plan["id"] });
    let path = shop.path("subscriptions");
    shop.customer.patch(&path, body.clone()).await.refused(403, "forbidden", "");
    assert_eq!(shop.provider.patch(&path, body).await.ok()["plan_id"], plan["id"]);
}

#[tokio::test]
async fn a_subscription_pinned_to_a_publish_takes_product_and_environment_from_it() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let body = json!({
        "customer_id": shop.id("customers"), "plan_id": shop.id("plans"),
        "product_publish_id": shop.id("product-publishes"),
    });
    shop.customer.step(&format!("{}/cancel", shop.path("subscriptions"))).await.ok();
    let made = shop.customer.make("subscriptions", body.clone()).await;
    assert_eq!(made["product_id"], shop.id("products"));
    assert_eq!(made["environment"], "prod");
    let mut other = body;
    other["environment"] = json!("dev");
    shop.customer.post("/v1/subscriptions", other).await.refused(422, "conflict", "/environment");
    // The pin prevents the publish's deletion.
    let answer = shop.provider.delete(&shop.path("product-publishes")).await;
    answer.refused(409, "in_use", "");
}

#[tokio::test]
async fn a_private_product_is_not_for_customers() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let product = shop.provider.make("products", json!({ "name": "secret" })).await;
    let plan = json!({ "name": "p", "product_id": product["id"] });
    let plan = shop.provider.make("plans", plan).await;
    let body = json!({
        "customer_id": shop.id("customers"), "product_id": product["id"],
        "environment": "prod", "plan_id": plan["id"],
    });
    let answer = shop.customer.post("/v1/subscriptions", body.clone()).await;
    answer.refused(422, "unknown_reference", "/product_id");
    shop.provider.make("subscriptions", body).await;
}

#[tokio::test]
async fn a_consumer_joins_app_and_subscription_of_one_customer() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let rival = shop.provider.make("customers", json!({ "name": "Rival" })).await;
    let app = json!({ "name": "x", "customer_id": rival["id"], "tenant_id": shop.id("tenants") });
    let app = plane.admin.make("client-apps", app).await;
    let body = json!({ "subscription_id": shop.id("subscriptions"), "client_app_id": app["id"] });
    let answer = plane.admin.post("/v1/consumers", body).await;
    answer.refused(422, "other_customer", "/client_app_id");
}

#[tokio::test]
async fn a_revoked_credential_stays_revoked() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let path = shop.path("credentials");
    let key = shop.objects["credentials"]["api_key"].as_str().unwrap();
    assert!(key.starts_with("imp_key_"));
    assert!(key.ends_with(shop.objects["credentials"]["last4"].as_str().unwrap()));
    assert_eq!(shop.customer.step(&format!("{path}/revoke")).await.ok()["status"], "revoked");
    let again = shop.customer.step(&format!("{path}/revoke")).await;
    again.refused(409, "invalid_transition", "");
    let later = json!({ "expires_at": "2100-01-01T00:00:00Z" });
    shop.customer.patch(&path, later).await.refused(409, "invalid_transition", "");
    let past = json!({ "consumer_id": shop.id("consumers"), "expires_at": "2020-01-01T00:00:00Z" });
    shop.customer.post("/v1/credentials", past).await.refused(422, "in_the_past", "/expires_at");
}

#[tokio::test]
async fn usage_is_asked_for_by_subscription() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    shop.customer.get("/v1/usage").await.refused(400, "required_parameter", "");
    let path = format!("/v1/usage?subscription_id={}", shop.id("subscriptions"));
    assert_eq!(shop.customer.get(&path).await.ok()["items"], json!([]));
    let other = Shop::open(&plane, "other").await;
    other.customer.get(&path).await.refused(404, "not_found", "");
}
