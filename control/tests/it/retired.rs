//! Retirement is final: every path that could bring a service back.

use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Shop, payment_service};

/// A publish whose first revision served a second service, which nothing uses any more.
async fn leave(shop: &Shop) -> (String, Value) {
    let mut service = payment_service();
    service["name"] = json!("old");
    service["routes"] =
        json!([{ "name": "old", "path": { "prefix": "/old" }, "backend_id": "svc" }]);
    let old = shop.provider.make("api-services", service).await;
    let mut publish = shop.publish("old.example.com");
    let (product, both) = (shop.path("products"), json!([shop.id("api-services"), old["id"]]));
    shop.provider.patch(&product, json!({ "api_services": both })).await.ok();
    publish["api_services"] = json!([]);
    let publish = shop.provider.make("product-publishes", publish).await;
    let path = format!("/v1/product-publishes/{}", publish["id"].as_str().unwrap());
    let one = json!({ "api_services": [shop.id("api-services")] });
    shop.provider.patch(&product, one).await.ok();
    (path, old)
}

#[rstest]
#[tokio::test]
async fn nothing_brings_a_retired_service_back(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let provider = &shop.provider;
    let (publish, old) = leave(&shop).await;
    let service = format!("/v1/api-services/{}", old["id"].as_str().unwrap());
    provider.step(&format!("{service}/deprecate")).await.ok();
    // Not in the product any more, but still served by the publish's frozen copy.
    provider.step(&format!("{service}/retire")).await.refused(409, "in_use", "");
    provider.delete(&service).await.refused(409, "in_use", "");
    provider.step(&format!("{publish}/redeploy")).await.ok();
    provider.step(&format!("{service}/retire")).await.ok();

    let back = json!({ "revision": 1 });
    let answer = provider.post(&format!("{publish}/rollback"), back.clone()).await;
    answer.refused(409, "service_retired", "/revision");
    let named = json!({ "api_services": [old["id"]] });
    let product = shop.path("products");
    let answer = provider.patch(&product, named.clone()).await;
    answer.refused(409, "service_retired", "/api_services/0");
    let new = json!({ "name": "n", "api_services": [old["id"]] });
    let answer = provider.post("/v1/products", new).await;
    answer.refused(409, "service_retired", "/api_services/0");
    let empty = provider.make("products", json!({ "name": "empty" })).await;
    let mut body = shop.publish("empty.example.com");
    body["product_id"] = empty["id"].clone();
    body["api_services"] = json!([old["id"]]);
    let answer = provider.post("/v1/product-publishes", body.clone()).await;
    answer.refused(409, "service_retired", "/api_services/0");
    // A publish of a product without a list may name any service, until that is retired.
    body["api_services"] = json!([shop.id("api-services")]);
    let other = provider.make("product-publishes", body).await;
    let other = format!("/v1/product-publishes/{}", other["id"].as_str().unwrap());
    let answer = provider.patch(&other, named).await;
    answer.refused(409, "service_retired", "/api_services/0");
    for verb in ["deprecate", "retire"] {
        let answer = provider.step(&format!("{service}/{verb}")).await;
        answer.refused(409, "invalid_transition", "");
    }
    let answer = provider.patch(&service, json!({ "description": "again" })).await;
    answer.refused(409, "invalid_transition", "");

    // Deleting it does not hide that it was retired.
    assert_eq!(provider.delete(&service).await.status, 204);
    let answer = provider.post(&format!("{publish}/rollback"), back).await;
    answer.refused(409, "service_retired", "/revision");
    assert_eq!(provider.get(&publish).await.ok()["desired_revision"], 2);
}

/// Whichever comes first, the other sees it.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retirement_and_a_rollback_at_the_same_time_do_not_both_succeed(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (publish, old) = leave(&shop).await;
    let service = format!("/v1/api-services/{}", old["id"].as_str().unwrap());
    shop.provider.step(&format!("{service}/deprecate")).await.ok();
    shop.provider.step(&format!("{publish}/redeploy")).await.ok();
    let (rollback, retire) = (format!("{publish}/rollback"), format!("{service}/retire"));
    let (back, over) = tokio::join!(
        shop.provider.post(&rollback, json!({ "revision": 1 })),
        shop.provider.step(&retire),
    );
    assert!(
        back.status.is_success() != over.status.is_success(),
        "{} {}",
        back.status,
        over.status
    );
}
