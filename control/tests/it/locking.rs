//! Optimistic locking and conditional reads.

use imp_store::testing::Kind;
use reqwest::Method;
use rstest::rstest;
use serde_json::json;

use crate::control_plane::{Caller, ControlPlane, Shop};

#[tokio::test]
async fn a_change_based_on_an_old_version_is_refused() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let path = shop.path("gateways");
    shop.provider.patch(&path, json!({ "description": "two" })).await.ok();
    let before = plane.everything().await;
    for (method, body) in [
        (Method::PUT, Some(json!({ "name": "x", "listeners": [] }))),
        (Method::PATCH, Some(json!({ "description": "three" }))),
        (Method::DELETE, None),
    ] {
        for tag in ["\"1\"", "W/\"2\"", "\"x\""] {
            let request = shop.provider.request(method.clone(), &path).header("if-match", tag);
            let request = match &body {
                Some(body) => request.json(body),
                None => request,
            };
            Caller::finish(request).await.refused(412, "version_mismatch", "");
        }
    }
    assert_eq!(plane.everything().await, before);
    for tag in ["\"2\"", "\"9\", \"3\"", "*"] {
        let request = shop.provider.request(Method::PATCH, &path).header("if-match", tag);
        Caller::finish(request.json(&json!({ "description": tag }))).await.ok();
    }
}

#[tokio::test]
async fn what_the_caller_already_holds_is_not_sent_again() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let path = shop.path("plans");
    let first = shop.provider.get(&path).await;
    assert_eq!(first.header("etag"), "\"1\"");
    let again = async |tag: &str| {
        let request = shop.provider.request(Method::GET, &path).header("if-none-match", tag);
        Caller::finish(request).await
    };
    assert_eq!(again("\"1\"").await.status, 304);
    assert_eq!(again("W/\"1\"").await.status, 304);
    assert_eq!(again("\"2\"").await.status, 200);
    let changed = shop.provider.patch(&path, json!({ "description": "x" })).await;
    assert_eq!(changed.header("etag"), "\"2\"");
    assert_eq!(again("\"1\"").await.status, 200);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_changes_of_one_version_one_wins(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let path = shop.path("gateways");
    let calls = (0..8).map(|index| {
        let request = shop.provider.request(Method::PATCH, &path).header("if-match", "\"1\"");
        let request = request.json(&json!({ "description": format!("{index}") }));
        tokio::spawn(Caller::finish(request))
    });
    let mut won = 0;
    for call in calls.collect::<Vec<_>>() {
        let answer = call.await.unwrap();
        match answer.status.as_u16() {
            200 => won += 1,
            _ => answer.refused(412, "version_mismatch", ""),
        }
    }
    assert_eq!(won, 1);
}
