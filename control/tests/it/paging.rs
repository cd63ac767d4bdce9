//! Lists in pages.

use serde_json::{Value, json};

use crate::control_plane::{Caller, ControlPlane, Shop};

async fn walk(caller: &Caller, path: &str) -> Vec<Vec<Value>> {
    let mut pages = Vec::new();
    let mut next = path.to_owned();
    loop {
        let page = caller.get(&next).await.ok();
        pages.push(page["items"].as_array().unwrap().clone());
        let Some(token) = page["next_page_token"].as_str() else { return pages };
        next = format!("{path}&page_token={token}");
        assert!(pages.len() < 20, "no end");
    }
}

#[tokio::test]
async fn a_walk_over_the_pages_meets_everything_once_in_the_order_it_was_made() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let mut names = vec!["Shop Ltd".to_owned()];
    for index in 0..6 {
        let name = format!("customer {index}");
        shop.provider.make("customers", json!({ "name": name })).await;
        names.push(name);
    }
    for (size, lengths) in [(3, vec![3, 3, 1]), (7, vec![7]), (1, vec![1; 7]), (1000, vec![7])] {
        let pages = walk(&shop.provider, &format!("/v1/customers?page_size={size}")).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), lengths, "page_size={size}");
        let met: Vec<Value> = pages.concat().iter().map(|item| item["name"].clone()).collect();
        assert_eq!(json!(met), json!(names));
    }
}

#[tokio::test]
async fn an_object_made_meanwhile_moves_no_page() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    for index in 0..3 {
        shop.provider.make("customers", json!({ "name": format!("{index}") })).await;
    }
    let first = shop.provider.get("/v1/customers?page_size=2").await.ok();
    let gone = format!("/v1/customers/{}", first["items"][1]["id"].as_str().unwrap());
    assert_eq!(shop.provider.delete(&gone).await.status, 204);
    let token = first["next_page_token"].as_str().unwrap();
    let path = format!("/v1/customers?page_size=2&page_token={token}");
    let second = shop.provider.get(&path).await.ok();
    assert_eq!(second["items"][0]["name"], "1");
}

#[tokio::test]
async fn a_page_token_is_good_for_its_own_list_only() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    shop.provider.make("customers", json!({ "name": "b" })).await;
    let first = shop.provider.get("/v1/customers?page_size=1").await.ok();
    let token = first["next_page_token"].as_str().unwrap();
    for list in ["customers?name=b&", "plans?"] {
        let path = format!("/v1/{list}page_size=1&page_token={token}");
        shop.provider.get(&path).await.refused(400, "invalid_page_token", "");
    }
}

#[tokio::test]
async fn a_page_token_of_another_tenant_opens_nothing() {
    let plane = ControlPlane::start().await;
    let (shop, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    shop.provider.make("customers", json!({ "name": "b" })).await;
    let first = shop.provider.get("/v1/customers?page_size=1").await.ok();
    let path = format!(
        "/v1/customers?page_size=1&page_token={}",
        first["next_page_token"].as_str().unwrap()
    );
    assert_eq!(shop.provider.get(&path).await.status, 200);
    other.provider.get(&path).await.refused(400, "invalid_page_token", "");
    shop.customer.get(&path).await.refused(400, "invalid_page_token", "");
}

#[tokio::test]
async fn a_filter_names_fields() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let count =
        async |path: String| shop.provider.get(&path).await.ok()["items"].as_array().unwrap().len();
    assert_eq!(count("/v1/plans?status=active".into()).await, 1);
    assert_eq!(count("/v1/plans?status=draft".into()).await, 0);
    assert_eq!(count(format!("/v1/plans?product_id={}", shop.id("products"))).await, 1);
    assert_eq!(count("/v1/product-publishes?environment=dev".into()).await, 0);
    assert_eq!(count(format!("/v1/product-publishes?cluster_id={}", shop.id("clusters"))).await, 1);
    assert_eq!(count("/v1/api-services?name=payment-service".into()).await, 1);
    assert_eq!(count("/v1/subscriptions?status=active".into()).await, 1);
    assert_eq!(count(format!("/v1/credentials?consumer_id={}", shop.id("consumers"))).await, 1);
}
