//! The life cycle of each kind of object: created, read, listed, replaced, updated, deleted.

use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::control_plane::{Caller, ControlPlane, Shop, payment_service, public_gateway};

/// Create, get, find in the list, PUT what was read, PATCH, PUT, DELETE, gone.
async fn lives(caller: &Caller, kind: &str, new: Value, patch: Value) {
    let made = caller.make(kind, new.clone()).await;
    let path = format!("/v1/{kind}/{}", made["id"].as_str().unwrap());
    assert_eq!(made["version"], 1, "{kind}");
    let read = caller.get(&path).await.ok();
    for (field, value) in read.as_object().unwrap() {
        assert_eq!(made[field], *value, "{kind}.{field}: POST and GET differ");
    }
    let list = caller.get(&format!("/v1/{kind}")).await.ok();
    assert!(list["items"].as_array().unwrap().contains(&read), "{kind}: not in the list");

    let same = caller.put(&path, read.clone()).await.ok();
    assert_eq!(same, read, "{kind}: a PUT of what was read changes nothing");
    let same = caller.put(&path, new).await.ok();
    assert_eq!(same, read, "{kind}: nor does one of what was written");

    let patched = caller.patch(&path, patch.clone()).await.ok();
    assert_eq!(patched["version"], 2, "{kind}");
    for (field, value) in patch.as_object().unwrap() {
        assert_eq!(patched[field], *value, "{kind}.{field}");
    }
    assert_eq!(caller.get(&path).await.ok(), patched);

    assert_eq!(caller.delete(&path).await.status, 204, "{kind}");
    caller.get(&path).await.refused(404, "not_found", "");
    caller.delete(&path).await.refused(404, "not_found", "");
}

#[rstest]
#[tokio::test]
async fn what_the_platform_owns_lives_and_ends(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let plane = ControlPlane::on(kind).await;
    let tenant = json!({ "name": "Acme", "slug": "acme" });
    lives(&plane.admin, "tenants", tenant, json!({ "name": "Acme Ltd" })).await;
    let cluster = json!({ "name": "kr-seoul", "labels": { "env": "prod" } });
    lives(&plane.admin, "clusters", cluster, json!({ "region": "ap-northeast-2" })).await;
}

#[rstest]
#[tokio::test]
async fn what_a_provider_owns_lives_and_ends(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let named = |mut body: Value| {
        body["name"] = json!("another");
        body
    };
    let description = json!({ "description": "better" });
    lives(&shop.provider, "api-services", named(payment_service()), description.clone()).await;
    lives(&shop.provider, "gateways", named(public_gateway()), description.clone()).await;
    lives(&shop.provider, "products", json!({ "name": "another" }), description.clone()).await;
    let plan = json!({ "name": "another", "product_id": shop.id("products") });
    lives(
        &shop.provider,
        "plans",
        plan,
        json!({ "limits": [
        { "name": "burst", "unit": "requests", "amount": 5, "window": "second",
          "on_exceed": "block", "scope": "consumer" },
    ] }),
    )
    .await;
    lives(&shop.provider, "customers", json!({ "name": "another" }), json!({ "name": "B" })).await;
    let domain = shop.provider.make("domains", json!({ "name": "Another.Example.NET." })).await;
    assert_eq!(domain["name"], "another.example.net");
    let path = format!("/v1/domains/{}", domain["id"].as_str().unwrap());
    assert_eq!(shop.provider.put(&path, domain.clone()).await.ok(), domain);
    let other = json!({ "name": "example.net" });
    shop.provider.patch(&path, other).await.refused(422, "immutable_field", "/name");
    assert_eq!(shop.provider.delete(&path).await.status, 204);
    shop.provider.get(&path).await.refused(404, "not_found", "");
    let publish = shop.publish("another.example.com");
    lives(&shop.provider, "product-publishes", publish, json!({ "base_path": "/v2" })).await;
}

#[rstest]
#[tokio::test]
async fn what_a_customer_owns_lives_and_ends(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let plan = json!({ "name": "silver", "product_id": shop.id("products"), "auto_approve": true });
    let silver = shop.provider.make("plans", plan).await;
    let to_silver = json!({ "plan_id": silver["id"] });
    // One that was never active: the provider may delete it.
    let asked = json!({ "name": "asked", "product_id": shop.id("products") });
    let asked = shop.provider.make("plans", asked).await;
    let mut pending = shop.subscription();
    pending["environment"] = json!("dev");
    pending["plan_id"] = asked["id"].clone();
    lives(&shop.provider, "subscriptions", pending, to_silver).await;
    let app = json!({ "name": "another", "customer_id": shop.id("customers") });
    lives(&shop.customer, "client-apps", app.clone(), json!({ "name": "renamed" })).await;
    let credential = json!({ "consumer_id": shop.id("consumers") });
    let end = json!({ "expires_at": "2100-01-01T00:00:00Z" });
    lives(&shop.customer, "credentials", credential, end).await;

    // No field of a consumer can change.
    let app = shop.customer.make("client-apps", app).await;
    let body = json!({ "subscription_id": shop.id("subscriptions"), "client_app_id": app["id"] });
    let consumer = shop.customer.make("consumers", body).await;
    let path = format!("/v1/consumers/{}", consumer["id"].as_str().unwrap());
    assert_eq!(shop.customer.put(&path, consumer.clone()).await.ok(), consumer);
    assert_eq!(shop.customer.delete(&path).await.status, 204);
    shop.customer.get(&path).await.refused(404, "not_found", "");
}

#[tokio::test]
async fn a_merge_patch_keeps_what_it_does_not_name_and_null_restores_the_default() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let path = shop.path("plans");
    let request = shop.provider.request(reqwest::Method::PATCH, &path);
    let request = request
        .header("content-type", "application/merge-patch+json")
        .body(r#"{"rate_limit":null,"quota":{"requests":5,"per":"day"}}"#);
    let plan = Caller::finish(request).await.ok();
    assert_eq!(plan["name"], "gold");
    assert_eq!(plan["auto_approve"], true);
    assert_eq!(plan.get("rate_limit"), None);
    assert_eq!(plan["quota"], json!({ "requests": 5, "per": "day" }));
}

#[tokio::test]
async fn an_edited_service_keeps_the_ids_of_its_parts_and_counts_revisions() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let before = &shop.objects["api-services"];
    let mut body = payment_service();
    body["routes"][0]["timeout_ms"] = json!(100);
    let after = shop.provider.put(&shop.path("api-services"), body).await.ok();
    assert_eq!(after["revision"], 2);
    for list in ["routes", "backends", "policies"] {
        assert_eq!(after[list][0]["id"], before[list][0]["id"], "{list}");
    }
}

/// The list's schema of a type matches what the API accepts in a policy of it.
#[tokio::test]
async fn policy_types_are_listed_with_the_schema_of_their_settings() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let list = shop.customer.get("/v1/policy-types").await.ok();
    let types = list["items"].as_array().unwrap();
    let settings = json!({
        "rate_limit": { "requests": 5, "per": "minute" },
        "request_headers": { "set": [{ "name": "x-team", "value": "a" }] },
        "response_headers": { "remove": ["x-powered-by"] },
        "ip_access": { "allow": ["203.0.113.0/24"], "deny": ["203.0.113.66"] },
        "cors": { "allow_origins": ["https://*.example.com"], "max_age_seconds": 60 },
    });
    assert_eq!(types.len(), settings.as_object().unwrap().len());
    let mut policies = Vec::new();
    for described in types {
        let name = described["type"].as_str().unwrap();
        let fields = described["config_schema"]["properties"].as_object().unwrap();
        for field in settings[name].as_object().unwrap().keys() {
            assert!(fields.contains_key(field), "{name}.{field}: {described:#}");
        }
        assert!(!described.to_string().contains("$ref"), "complete in itself: {described:#}");
        assert!(described["summary"].as_str().is_some_and(|text| text.len() > 20));
        policies.push(json!({ "name": name, "type": name, "config": settings[name] }));
    }
    let mut service = payment_service();
    service["name"] = json!("guarded");
    service["policies"] = json!(policies);
    let made = shop.provider.post("/v1/api-services", service.clone()).await.ok();
    for (index, policy) in policies.iter().enumerate() {
        for (field, value) in policy["config"].as_object().unwrap() {
            assert_eq!(made["policies"][index]["config"][field], *value, "{policy}");
        }
    }
    for (pointer, wrong, code) in [
        ("/policies/3/config/allow/0", json!("203.0.113.0/33"), "invalid_network"),
        ("/policies/3/config", json!({}), "required"),
        ("/policies/4/config/allow_origins/0", json!("https://a.example/"), "invalid_origin"),
        ("/policies/4/config/allow_origins", json!([]), "required"),
        ("/policies/4/config/max_age_seconds", json!(90_000), "out_of_range"),
        ("/policies/4/config/allow_methods", json!(["CONNECT"]), "invalid_method"),
    ] {
        let mut body = service.clone();
        body["name"] = json!("wrong");
        match body.pointer_mut(pointer) {
            Some(place) => *place = wrong,
            None => body["policies"][4]["config"][pointer.rsplit('/').next().unwrap()] = wrong,
        }
        let answer = shop.provider.post("/v1/api-services", body).await;
        let fault = &answer.body["errors"][0];
        let at = fault["pointer"].as_str().unwrap_or_default();
        assert_eq!(
            (answer.status.as_u16(), fault["code"].as_str()),
            (422, Some(code)),
            "{pointer}"
        );
        assert!(at.starts_with(pointer), "{at} for {pointer}");
    }
    let mut any = service.clone();
    any["policies"][4]["config"] = json!({ "allow_origins": ["*"], "allow_credentials": true });
    let answer = shop.provider.post("/v1/api-services", any).await;
    assert_eq!(answer.body["errors"][0]["code"], "credentials_for_any_origin");
}

#[tokio::test]
async fn unique_names_stand_for_ids_in_paths() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let admin = &plane.admin;
    assert_eq!(admin.get("/v1/tenants/acme").await.ok()["id"], shop.id("tenants"));
    assert_eq!(admin.get("/v1/clusters/acme-cluster").await.ok()["id"], shop.id("clusters"));
    let service = shop.provider.get("/v1/api-services/payment-service").await.ok();
    assert_eq!(service["id"], shop.id("api-services"));
    let product = shop.provider.get("/v1/products/Payment%20API").await.ok();
    assert_eq!(product["id"], shop.id("products"));
    // An operator sees many tenants' names and must name the tenant.
    admin.get("/v1/gateways/public").await.refused(404, "not_found", "");
    let path = format!("/v1/gateways/public?tenant_id={}", shop.id("tenants"));
    assert_eq!(admin.get(&path).await.ok()["id"], shop.id("gateways"));
    admin.get("/v1/tenants/nobody").await.refused(404, "not_found", "");
}

#[tokio::test]
async fn a_service_is_deprecated_and_retired_once_nothing_serves_it() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let (provider, service) = (&shop.provider, shop.path("api-services"));
    assert_eq!(provider.get(&service).await.ok()["status"], "published");
    provider.step(&format!("{service}/retire")).await.refused(409, "invalid_transition", "");
    let deprecated = provider.step(&format!("{service}/deprecate")).await.ok();
    assert_eq!(deprecated["status"], "deprecated");
    let again = provider.post("/v1/product-publishes", shop.publish("b.example.com")).await;
    again.refused(409, "invalid_transition", "");
    // The publish that serves it can still be changed.
    let redeployed = provider.step(&format!("{}/redeploy", shop.path("product-publishes"))).await;
    assert_eq!(redeployed.ok()["desired_revision"], 2);
    provider.step(&format!("{service}/retire")).await.refused(409, "in_use", "");
    assert_eq!(provider.delete(&shop.path("product-publishes")).await.status, 204);
    assert_eq!(provider.step(&format!("{service}/retire")).await.ok()["status"], "retired");
    let edit = provider.patch(&service, json!({ "description": "x" })).await;
    edit.refused(409, "invalid_transition", "");
}

#[tokio::test]
async fn a_cluster_hands_out_registration_tokens() {
    let plane = ControlPlane::start().await;
    let cluster = plane.admin.make("clusters", json!({ "name": "kr" })).await;
    let path = "/v1/clusters/kr/registration-tokens";
    let token = plane.admin.post(path, json!({ "description": "first" })).await.ok();
    assert!(token["token"].as_str().unwrap().starts_with("imp_reg_"));
    assert_eq!(token["cluster_id"], cluster["id"]);
    let list = plane.admin.get(path).await.ok();
    assert_eq!(list["items"][0]["id"], token["id"]);
    assert_eq!(list["items"][0].get("token"), None);
    let one = format!("{path}/{}", token["id"].as_str().unwrap());
    assert_eq!(plane.admin.get(&one).await.ok()["description"], "first");
    assert_eq!(plane.admin.delete(&one).await.status, 204);
    plane.admin.delete(&one).await.refused(404, "not_found", "");
    let agents = plane.admin.get("/v1/clusters/kr/agents").await.ok();
    assert_eq!(agents["items"], json!([]));
    let nobody = format!("/v1/clusters/kr/agents/{}", uuid::Uuid::now_v7());
    plane.admin.get(&nobody).await.refused(404, "not_found", "");
    plane.admin.delete(&nobody).await.refused(404, "not_found", "");
}

#[tokio::test]
async fn me_says_whom_the_token_speaks_for() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let me = shop.customer.get("/v1/me").await.ok();
    assert_eq!(me["tenant_id"], shop.id("tenants"));
    assert_eq!(me["customer_id"], shop.id("customers"));
    let me = plane.admin.get("/v1/me").await.ok();
    assert_eq!((&me["tenant_id"], &me["roles"]), (&Value::Null, &json!(["system-admin"])));
}
