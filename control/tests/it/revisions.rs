//! Revisions of a publish: a limited number is kept, and a list of them is small.

use imp_grammar::caps;
use imp_store::product_publish;
use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Shop};

async fn numbers(shop: &Shop) -> Vec<i64> {
    let path = format!("{}/revisions?page_size=20", shop.path("product-publishes"));
    let (mut all, mut next) = (Vec::new(), path.clone());
    loop {
        let page = shop.provider.get(&next).await.ok();
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 20);
        all.extend(items.iter().map(|item| item["revision"].as_i64().unwrap()));
        let Some(token) = page["next_page_token"].as_str() else { return all };
        next = format!("{path}&page_token={token}");
    }
}

#[rstest]
#[tokio::test]
async fn only_the_newest_revisions_are_kept_and_what_serves_is_among_them(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let path = shop.path("product-publishes");
    let redeploy = async || shop.provider.step(&format!("{path}/redeploy")).await.ok();
    redeploy().await;
    // Envoys serve the second one.
    let store = &plane.running.store;
    let mut tx = store.begin().await.unwrap();
    let id = shop.id("product-publishes").parse().unwrap();
    let before = product_publish::get_for_update(&mut tx, id).await.unwrap().unwrap();
    let after = imp_core::product_publish::ProductPublish { acked_revision: 2, ..before.clone() };
    assert!(product_publish::report(&mut tx, &before, &after).await.unwrap());
    tx.commit().await.unwrap();

    let kept = caps::REVISIONS_KEPT.value as i64;
    for _ in 2..kept {
        redeploy().await;
    }
    let newest_first = |newest: i64, oldest: i64| (oldest..=newest).rev().collect::<Vec<_>>();
    assert_eq!(numbers(&shop).await, newest_first(kept, 1));
    redeploy().await;
    redeploy().await;
    redeploy().await;
    let mut expected = newest_first(kept + 3, 4);
    expected.push(2);
    assert_eq!(numbers(&shop).await, expected);
    let gone = shop.provider.post(&format!("{path}/rollback"), json!({ "revision": 3 })).await;
    gone.refused(422, "unknown_reference", "/revision");
    for revision in [2, 5] {
        let body = json!({ "revision": revision });
        shop.provider.post(&format!("{path}/rollback"), body).await.ok();
    }
}

#[tokio::test]
async fn a_list_of_revisions_does_not_hold_the_services() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let path = format!("{}/revisions", shop.path("product-publishes"));
    let listed = shop.provider.get(&path).await.ok()["items"][0].clone();
    let fields: Vec<&String> = listed.as_object().unwrap().keys().collect();
    assert_eq!(fields, ["content_hash", "created_at", "revision", "spec"]);
    let whole = shop.provider.get(&format!("{path}/1")).await.ok();
    assert_eq!(whole["content_hash"], listed["content_hash"]);
    assert_eq!(whole["api_services"].as_array().map(Vec::len), Some(1));
    assert_eq!(whole["spec"], listed["spec"]);
    assert_ne!(listed["spec"]["hostnames"], Value::Null);
}
