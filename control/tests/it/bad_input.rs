//! Bad input: a 4xx problem that points at the fault, and nothing half-written.

use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, Shop, payment_service, public_gateway};

/// The body with the value at `pointer` replaced or added.
fn with(mut body: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match body.pointer_mut(parent).unwrap() {
        Value::Object(fields) => {
            fields.insert(name.to_owned(), value);
        }
        Value::Array(items) => items[name.parse::<usize>().unwrap()] = value,
        _ => panic!("{pointer}"),
    }
    body
}

#[tokio::test]
async fn a_body_of_the_wrong_shape_is_refused_with_a_pointer() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let before = plane.everything().await;
    let (service, gateway) = (payment_service(), public_gateway());
    let publish = shop.publish("free.example.com");
    let plan = json!({ "product_id": shop.id("products"), "name": "x" });
    let table = [
        ("api-services", with(service.clone(), "/colour", json!(1)), "unknown_field", "/colour"),
        (
            "api-services",
            with(service.clone(), "/routes/0/colour", json!(1)),
            "unknown_field",
            "/routes/0/colour",
        ),
        ("api-services", with(service.clone(), "/name", json!(1)), "invalid_type", "/name"),
        (
            "api-services",
            with(service.clone(), "/backends/0/endpoints/0/port", json!("x")),
            "invalid_type",
            "/backends/0/endpoints/0/port",
        ),
        (
            "api-services",
            with(service.clone(), "/backends/0/endpoints/0/port", json!(70000)),
            "invalid_value",
            "/backends/0/endpoints/0/port",
        ),
        ("api-services", with(service.clone(), "/routes", json!({})), "invalid_type", "/routes"),
        (
            "gateways",
            with(gateway.clone(), "/gateway_class", json!("apache")),
            "invalid_value",
            "/gateway_class",
        ),
        (
            "gateways",
            with(gateway, "/listeners/0/protocol", json!("TCP")),
            "invalid_value",
            "/listeners/0/protocol",
        ),
        (
            "plans",
            with(plan.clone(), "/quota", json!({ "requests": -1, "per": "day" })),
            "invalid_value",
            "/quota/requests",
        ),
        ("plans", with(plan.clone(), "/status", json!("closed")), "invalid_value", "/status"),
        ("plans", with(plan, "/product_id", json!("nope")), "invalid_value", "/product_id"),
        (
            "product-publishes",
            with(publish.clone(), "/cluster_id", json!("kr")),
            "invalid_value",
            "/cluster_id",
        ),
        (
            "product-publishes",
            with(publish, "/auth_mode", json!("magic")),
            "invalid_value",
            "/auth_mode",
        ),
    ];
    for (kind, body, code, pointer) in table {
        shop.provider.post(&format!("/v1/{kind}"), body).await.refused(400, code, pointer);
    }
    assert_eq!(plane.everything().await, before);
}

#[tokio::test]
async fn what_is_well_formed_and_wrong_is_refused_with_a_pointer() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let before = plane.everything().await;
    let (service, gateway) = (payment_service(), public_gateway());
    let publish = shop.publish("free.example.com");
    let header = |name: &str, value: &str| json!([{ "name": "h", "type": "request_headers", "config": { "set": [{ "name": name, "value": value }] } }]);
    let unknown = json!(uuid::Uuid::now_v7());
    let policy = "/policies/0/config/set/0";
    let table = [
        ("api-services", json!({}), "required", "/name".to_owned()),
        (
            "api-services",
            with(service.clone(), "/routes/0/path", json!({ "regex": "(" })),
            "invalid_regex",
            "/routes/0/path/regex".to_owned(),
        ),
        (
            "api-services",
            with(service.clone(), "/routes/0/backend_id", json!("nope")),
            "unknown_backend",
            "/routes/0/backend_id".to_owned(),
        ),
        (
            "api-services",
            with(service.clone(), "/routes/1/name", json!("payments")),
            "duplicate_name",
            "/routes/1/name".to_owned(),
        ),
        (
            "api-services",
            with(service.clone(), "/policies", header("x-a", "100%")),
            "invalid_header_value",
            format!("{policy}/value"),
        ),
        (
            "api-services",
            with(service.clone(), "/policies", header("x a", "1")),
            "invalid_header_name",
            format!("{policy}/name"),
        ),
        (
            "gateways",
            with(gateway, "/listeners/0/protocol", json!("HTTPS")),
            "unsupported_protocol",
            "/listeners/0/protocol".to_owned(),
        ),
        (
            "products",
            json!({ "name": "x", "api_services": [unknown] }),
            "unknown_reference",
            "/api_services/0".to_owned(),
        ),
        ("plans", json!({ "name": "x" }), "required", "/product_id".to_owned()),
        (
            "product-publishes",
            with(publish.clone(), "/cluster_id", unknown.clone()),
            "unknown_reference",
            "/cluster_id".to_owned(),
        ),
        (
            "product-publishes",
            with(publish.clone(), "/gateway_id", unknown.clone()),
            "unknown_reference",
            "/gateway_id".to_owned(),
        ),
        (
            "product-publishes",
            with(publish.clone(), "/api_services", json!([unknown])),
            "not_in_product",
            "/api_services/0".to_owned(),
        ),
        (
            "product-publishes",
            with(publish.clone(), "/hostnames", json!([])),
            "required",
            "/hostnames".to_owned(),
        ),
        (
            "product-publishes",
            with(publish.clone(), "/hostnames/0", json!("*example.com")),
            "invalid_hostname",
            "/hostnames/0".to_owned(),
        ),
        (
            "product-publishes",
            with(publish.clone(), "/auth_mode", json!("oauth2")),
            "unsupported_auth_mode",
            "/auth_mode".to_owned(),
        ),
        (
            "product-publishes",
            with(publish, "/base_path", json!("/a/")),
            "invalid_path",
            "/base_path".to_owned(),
        ),
        ("api-tokens", json!({ "name": "x", "roles": [] }), "required", "/roles".to_owned()),
        (
            "api-tokens",
            json!({ "name": "x", "roles": ["api-consumer"] }),
            "invalid_customer",
            "/customer_id".to_owned(),
        ),
    ];
    for (kind, body, code, pointer) in table {
        shop.provider.post(&format!("/v1/{kind}"), body).await.refused(422, code, &pointer);
    }
    assert_eq!(plane.everything().await, before);
}

#[tokio::test]
async fn an_upstream_that_leads_inside_is_refused_unless_the_deployment_names_it() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let before = plane.everything().await;
    let pointer = "/backends/0/endpoints/0/host";
    for host in
        ["10.0.0.1", "169.254.169.254", "192.168.1.1", "[fd00::1]", "metadata.google.internal"]
    {
        let body = with(payment_service(), pointer, json!(host));
        let answer = shop.provider.post("/v1/api-services", body.clone()).await;
        answer.refused(422, "forbidden_upstream", pointer);
        let answer = shop.provider.put(&shop.path("api-services"), body).await;
        answer.refused(422, "forbidden_upstream", pointer);
    }
    assert_eq!(plane.everything().await, before);
    let body = with(payment_service(), pointer, json!("payment-svc.default.svc"));
    shop.provider.make("api-services", with(body, "/name", json!("public"))).await;
}

#[tokio::test]
async fn a_v1_client_that_sends_gateway_id_is_told_where_it_went() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let body = with(payment_service(), "/gateway_id", json!(shop.id("gateways")));
    let answer = shop.provider.post("/v1/api-services", body).await;
    answer.refused(400, "unknown_field", "/gateway_id");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.contains("PRD section 9") && detail.contains("product-publishes"), "{detail}");
}

#[rstest]
#[tokio::test]
async fn a_taken_name_is_refused(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let before = plane.everything().await;
    let table = [
        ("tenants", json!({ "name": "x", "slug": "acme" }), "/slug"),
        ("clusters", json!({ "name": "acme-cluster" }), "/name"),
    ];
    for (kind, body, pointer) in table {
        plane.admin.post(&format!("/v1/{kind}"), body).await.refused(409, "name_taken", pointer);
    }
    let plan = json!({ "name": "gold", "product_id": shop.id("products") });
    let table = [
        ("api-services", payment_service()),
        ("gateways", public_gateway()),
        ("products", json!({ "name": "Payment API" })),
        ("plans", plan),
        ("customers", json!({ "name": "Shop Ltd" })),
    ];
    for (kind, body) in table {
        shop.provider.post(&format!("/v1/{kind}"), body).await.refused(409, "name_taken", "/name");
    }
    let app = json!({ "name": "web shop", "customer_id": shop.id("customers") });
    shop.customer.post("/v1/client-apps", app).await.refused(409, "name_taken", "/name");
    let consumer = json!({
        "subscription_id": shop.id("subscriptions"), "client_app_id": shop.id("client-apps"),
    });
    let answer = shop.customer.post("/v1/consumers", consumer).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (409, "name_taken"), "{:#}", answer.body);
    assert_eq!(plane.everything().await, before);
    // Another tenant may use the same names.
    Shop::open(&plane, "other").await;
}

#[rstest]
#[tokio::test]
async fn what_is_in_use_cannot_be_deleted(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let before = plane.everything().await;
    for kind in ["tenants", "clusters"] {
        plane.admin.delete(&shop.path(kind)).await.refused(409, "in_use", "");
    }
    for kind in ["api-services", "gateways", "products", "plans", "customers"] {
        let answer = shop.provider.delete(&shop.path(kind)).await;
        answer.refused(409, "in_use", "");
        assert!(answer.body["detail"].as_str().unwrap().contains("refer"), "{:#}", answer.body);
    }
    for kind in ["client-apps", "consumers"] {
        shop.customer.delete(&shop.path(kind)).await.refused(409, "in_use", "");
    }
    assert_eq!(plane.everything().await, before);
}

#[tokio::test]
async fn what_cannot_change_does_not() {
    let plane = ControlPlane::start().await;
    let (shop, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    let before = plane.everything().await;
    let table = [
        ("tenants", "slug", json!("b")),
        ("tenants", "id", json!(uuid::Uuid::now_v7())),
        ("api-services", "tenant_id", json!(other.id("tenants"))),
        ("api-services", "status", json!("retired")),
        ("plans", "product_id", json!(other.id("products"))),
        ("plans", "plan_version", json!(7)),
        ("product-publishes", "product_id", json!(other.id("products"))),
        ("product-publishes", "gateway_id", json!(other.id("gateways"))),
        ("product-publishes", "cluster_id", json!(other.id("clusters"))),
        ("product-publishes", "desired_revision", json!(9)),
        ("subscriptions", "customer_id", json!(other.id("customers"))),
        ("subscriptions", "environment", json!("dev")),
        ("subscriptions", "status", json!("cancelled")),
        ("client-apps", "customer_id", json!(other.id("customers"))),
        ("consumers", "client_app_id", json!(other.id("client-apps"))),
        ("credentials", "consumer_id", json!(other.id("consumers"))),
        ("credentials", "last4", json!("0000")),
    ];
    for (kind, field, value) in table {
        let answer = plane.admin.patch(&shop.path(kind), json!({ field: value })).await;
        answer.refused(422, "immutable_field", &format!("/{field}"));
    }
    assert_eq!(plane.everything().await, before);
}

#[tokio::test]
async fn an_unknown_or_wrong_query_parameter_is_refused() {
    let plane = ControlPlane::start().await;
    let table = [
        ("colour=red", "unknown_parameter"),
        ("page_size=0", "invalid_parameter"),
        ("page_size=x", "invalid_parameter"),
        ("page_token=zzz", "invalid_page_token"),
        ("status=odd", "invalid_parameter"),
        ("product_id=1", "invalid_parameter"),
        ("status=active&status=draft", "invalid_parameter"),
    ];
    for (query, code) in table {
        plane.admin.get(&format!("/v1/plans?{query}")).await.refused(400, code, "");
    }
}
