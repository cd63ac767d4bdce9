//! Every error is a problem document, whatever made it.

use reqwest::Method;
use serde_json::json;

use crate::control_plane::{Caller, ControlPlane};

#[tokio::test]
async fn an_unknown_path_and_a_wrong_method_are_problems() {
    let plane = ControlPlane::start().await;
    plane.admin.get("/v1/nothing").await.refused(404, "not_found", "");
    plane.nobody().get("/nothing").await.refused(404, "not_found", "");
    let answer = plane.admin.delete("/v1/plans").await;
    answer.refused(405, "method_not_allowed", "");
    assert!(answer.header("allow").contains("GET"), "{}", answer.header("allow"));
    assert_eq!(answer.body["instance"], "/v1/plans");
    assert_eq!(answer.body["title"], "Method not allowed");
    assert_eq!(answer.body["type"], "urn:imp-gateway:problem:method_not_allowed");
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_a_problem() {
    let plane = ControlPlane::start().await;
    let send = async |kind: &str, body: Vec<u8>| {
        let request = plane.admin.request(Method::POST, "/v1/tenants");
        Caller::finish(request.header("content-type", kind).body(body)).await
    };
    let json = "application/json";
    send(json, b"{".to_vec()).await.refused(400, "malformed_json", "");
    send(json, b"".to_vec()).await.refused(400, "malformed_json", "");
    send(json, b"[]".to_vec()).await.refused(400, "invalid_type", "");
    send(json, b"\xff\xfe".to_vec()).await.refused(400, "malformed_json", "");
    send("text/plain", b"{}".to_vec()).await.refused(415, "unsupported_media_type", "");
    send(json, vec![b' '; 3 * 1024 * 1024]).await.refused(413, "too_large", "");
    let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    send(json, deep).await.refused(400, "malformed_json", "");
}

#[tokio::test]
async fn a_request_keeps_its_id() {
    let plane = ControlPlane::start().await;
    let request = plane.admin.request(Method::GET, "/v1/nothing").header("x-request-id", "abc-1");
    let answer = Caller::finish(request).await;
    assert_eq!(answer.header("x-request-id"), "abc-1");
    assert_eq!(answer.body["request_id"], "abc-1");
    let request = plane.admin.request(Method::GET, "/v1/me").header("x-request-id", "a b");
    let answer = Caller::finish(request).await;
    assert_ne!(answer.header("x-request-id"), "a b");
    assert_eq!(answer.header("x-request-id").len(), 36);
}

#[tokio::test]
async fn an_action_without_a_body_takes_none() {
    let plane = ControlPlane::start().await;
    let tenant = plane.admin.make("tenants", json!({ "name": "a", "slug": "a" })).await;
    let product = json!({ "name": "p", "status": "draft", "tenant_id": tenant["id"] });
    let product = plane.admin.make("products", product).await;
    let path = format!("/v1/products/{}/activate", product["id"].as_str().unwrap());
    plane.admin.post(&path, json!({ "force": true })).await.refused(400, "unknown_field", "/force");
    assert_eq!(plane.admin.post(&path, json!({})).await.ok()["status"], "active");
}
