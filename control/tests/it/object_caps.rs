//! Caps on a tenant's objects of each kind.

use imp_core::TenantId;
use imp_grammar::caps::{self, Cap};
use imp_store::share;
use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::control_plane::{Caller, ControlPlane, Shop, payment_service, public_gateway};

async fn pretend(plane: &ControlPlane, tenant: &str, kind: &str, objects: u64) {
    let mut tx = plane.running.store.begin().await.unwrap();
    let tenant: TenantId = tenant.parse().unwrap();
    share::pretend(&mut tx, tenant, &kind.replace('-', "_"), objects).await.unwrap();
    tx.commit().await.unwrap();
}

/// Kind, cap, creator, and a body by number.
type Row<'a> = (&'a str, &'a Cap, &'a Caller, Box<dyn Fn(u8) -> Value + 'a>);

fn named(mut body: Value, n: u8) -> Value {
    body["name"] = json!(format!("number {n}"));
    body
}

fn rows(shop: &Shop) -> Vec<Row<'_>> {
    let (provider, customer) = (&shop.provider, &shop.customer);
    let app = json!({ "customer_id": shop.id("customers") });
    let plan = json!({ "product_id": shop.id("products"), "auto_approve": true });
    let consumer = json!({ "consumer_id": shop.id("consumers") });
    vec![
        ("api-services", &caps::SERVICES_PER_TENANT, provider, {
            Box::new(|n| named(payment_service(), n))
        }),
        ("gateways", &caps::GATEWAYS_PER_TENANT, provider, {
            Box::new(|n| named(public_gateway(), n))
        }),
        ("products", &caps::PRODUCTS_PER_TENANT, provider, {
            Box::new(|n| named(json!({ "api_services": [shop.id("api-services")] }), n))
        }),
        ("plans", &caps::PLANS_PER_TENANT, provider, Box::new(move |n| named(plan.clone(), n))),
        ("product-publishes", &caps::PUBLISHES_PER_TENANT, provider, {
            Box::new(|n| shop.publish(&format!("number{n}.{}", shop.host)))
        }),
        ("customers", &caps::CUSTOMERS_PER_TENANT, provider, Box::new(|n| named(json!({}), n))),
        ("domains", &caps::DOMAINS_PER_TENANT, provider, {
            Box::new(|n| json!({ "name": format!("number{n}.example.org") }))
        }),
        ("client-apps", &caps::APPS_PER_TENANT, customer, {
            Box::new(move |n| named(app.clone(), n))
        }),
        ("credentials", &caps::CREDENTIALS_PER_TENANT, customer, {
            Box::new(move |_| consumer.clone())
        }),
        ("api-tokens", &caps::API_TOKENS_PER_TENANT, provider, {
            Box::new(|n| named(json!({ "roles": ["org-admin"] }), n))
        }),
    ]
}

#[rstest]
#[tokio::test]
async fn every_kind_of_object_ends_at_its_cap(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let plane = ControlPlane::on(kind).await;
    let (shop, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    for (kind, cap, caller, body) in rows(&shop) {
        pretend(&plane, shop.id("tenants"), kind, cap.value - 1).await;
        let last = caller.make(kind, body(1)).await;
        let answer = caller.post(&format!("/v1/{kind}"), body(2)).await;
        answer.refused(409, "cap_reached", "");
        let id = last["id"].as_str().unwrap();
        if caller.delete(&format!("/v1/{kind}/{id}")).await.status == 204 && kind != "api-tokens" {
            caller.make(kind, body(3)).await;
        }
    }
    // Subscriptions and consumers: the shop has one of each, and a second one needs its own
    // references.
    for (kind, cap) in [
        ("subscriptions", &caps::SUBSCRIPTIONS_PER_TENANT),
        ("consumers", &caps::CONSUMERS_PER_TENANT),
    ] {
        pretend(&plane, shop.id("tenants"), "customers", 1).await;
        pretend(&plane, shop.id("tenants"), "client-apps", 1).await;
        pretend(&plane, shop.id("tenants"), kind, cap.value - 1).await;
        let second = async |n: u8| second(&shop, kind, n).await;
        assert_eq!(second(1).await.status, 201, "{kind}");
        second(2).await.refused(409, "cap_reached", "");
    }
    for (kind, _, caller, body) in rows(&other) {
        caller.make(kind, body(1)).await;
    }
}

/// A subscription of another customer, or a consumer of another app.
async fn second(shop: &Shop, kind: &str, n: u8) -> crate::control_plane::Answer {
    if kind == "consumers" {
        let app = json!({ "customer_id": shop.id("customers"), "name": format!("app {n}") });
        let app = shop.customer.make("client-apps", app).await;
        let subscription = shop.id("subscriptions");
        let body = json!({ "subscription_id": subscription, "client_app_id": app["id"] });
        return shop.customer.post("/v1/consumers", body).await;
    }
    let customer = json!({ "name": format!("customer {n}") });
    let customer = shop.provider.make("customers", customer).await;
    let mut body = shop.subscription();
    body["customer_id"] = customer["id"].clone();
    shop.provider.post("/v1/subscriptions", body).await
}

#[rstest]
#[tokio::test]
async fn of_many_that_come_at_once_no_more_are_made_than_there_is_room_for(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let cap = caps::GATEWAYS_PER_TENANT.value;
    pretend(&plane, shop.id("tenants"), "gateways", cap - 3).await;
    let answers =
        (0..20).map(|n| {
            let provider = &shop.provider;
            async move {
                provider.post("/v1/gateways", named(public_gateway(), n)).await.status.as_u16()
            }
        });
    let answers = futures::future::join_all(answers).await;
    assert_eq!(answers.iter().filter(|status| **status == 201).count(), 3, "{answers:?}");
    assert_eq!(answers.iter().filter(|status| **status == 409).count(), 17, "{answers:?}");
}
