//! One living subscription, changes of plan, keys: limits that a customer cannot bypass.

use chrono::{DateTime, TimeDelta, Utc};
use imp_core::subscription::period_end;
use imp_store::audit::{self, Actor};
use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::control_plane::{CUSTOMER, ControlPlane, Shop};
use crate::jobs::change_plans;

fn path(object: &Value) -> String {
    format!("/v1/subscriptions/{}", object["id"].as_str().unwrap())
}

async fn plan(shop: &Shop, name: &str, monthly: u64) -> Value {
    let body = json!({
        "name": name, "product_id": shop.id("products"), "auto_approve": true,
        "quota": { "requests": monthly, "per": "month" },
    });
    shop.provider.make("plans", body).await
}

#[rstest]
#[tokio::test]
async fn a_customer_has_one_living_subscription_to_a_product_in_an_environment(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (customer, body) = (&shop.customer, shop.subscription());
    let again = customer.post("/v1/subscriptions", body.clone()).await;
    again.refused(409, "already_subscribed", "/product_id");
    let detail = again.body["detail"].as_str().unwrap();
    assert!(detail.contains(shop.id("subscriptions")), "{detail}");
    // Another plan, another publish, the provider itself: always the same subscription.
    let cheap = plan(&shop, "cheap", 50).await;
    let mut other = body.clone();
    other["plan_id"] = cheap["id"].clone();
    let again = shop.provider.post("/v1/subscriptions", other.clone()).await;
    again.refused(409, "already_subscribed", "/product_id");
    let pinned = json!({
        "customer_id": shop.id("customers"), "plan_id": cheap["id"],
        "product_publish_id": shop.id("product-publishes"),
    });
    let again = customer.post("/v1/subscriptions", pinned).await;
    again.refused(409, "already_subscribed", "/product_id");
    other["environment"] = json!("dev");
    customer.make("subscriptions", other).await;
    customer.step(&format!("{}/cancel", shop.path("subscriptions"))).await.ok();
    customer.make("subscriptions", body).await;
}

#[rstest]
#[tokio::test]
async fn a_suspended_or_pending_subscription_blocks_a_new_one(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let why = json!({ "reason": "unpaid" });
    let suspend = format!("{}/suspend", shop.path("subscriptions"));
    shop.provider.post(&suspend, why).await.ok();
    let again = shop.customer.post("/v1/subscriptions", shop.subscription()).await;
    again.refused(409, "already_subscribed", "/product_id");
    assert!(again.body["detail"].as_str().unwrap().contains("suspended"));
    let asked = json!({ "name": "asked", "product_id": shop.id("products") });
    let asked = shop.provider.make("plans", asked).await;
    let mut body = shop.subscription();
    body["environment"] = json!("staging");
    body["plan_id"] = asked["id"].clone();
    let pending = shop.customer.make("subscriptions", body.clone()).await;
    body["plan_id"] = json!(shop.id("plans"));
    let again = shop.customer.post("/v1/subscriptions", body.clone()).await;
    again.refused(409, "already_subscribed", "/product_id");
    let no = json!({ "reason": "no" });
    shop.provider.post(&format!("{}/reject", path(&pending)), no).await.ok();
    shop.customer.make("subscriptions", body).await;
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_concurrent_subscriptions_one_wins(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let mut body = shop.subscription();
    body["environment"] = json!("dev");
    let calls = (0..12).map(|_| shop.customer.post("/v1/subscriptions", body.clone()));
    let answers = futures::future::join_all(calls).await;
    let made: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
    assert_eq!(made.len(), 1);
    let id = made[0].body["id"].as_str().unwrap();
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        refused.refused(409, "already_subscribed", "/product_id");
        assert!(refused.body["detail"].as_str().unwrap().contains(id), "{:#}", refused.body);
    }
}

#[rstest]
#[tokio::test]
async fn a_plan_may_allow_more_than_one_subscription_and_each_counts_for_itself(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let several = json!({
        "name": "several", "product_id": shop.id("products"), "auto_approve": true,
        "subscriptions_per_customer": 3, "quota": { "requests": 2, "per": "month" },
    });
    for (number, code) in [(0, "out_of_range"), (101, "too_many")] {
        let mut wrong = several.clone();
        wrong["subscriptions_per_customer"] = json!(number);
        let answer = shop.provider.post("/v1/plans", wrong).await;
        assert_eq!(answer.status, 422);
        assert_eq!(answer.body["errors"][0]["code"], code);
        let pointer = &answer.body["errors"][0]["pointer"];
        assert_eq!(pointer, "/subscriptions_per_customer");
    }
    let several = shop.provider.make("plans", several).await;
    assert_eq!(several["subscriptions_per_customer"], 3);
    let mut body = shop.subscription();
    body["plan_id"] = several["id"].clone();
    let second = shop.customer.make("subscriptions", body.clone()).await;
    let third = shop.customer.make("subscriptions", body.clone()).await;
    assert_eq!((&second["ordinal"], &third["ordinal"]), (&json!(1), &json!(2)));
    let fourth = shop.customer.post("/v1/subscriptions", body.clone()).await;
    fourth.refused(409, "already_subscribed", "/product_id");
    // Beside them a plan that allows only one can neither be subscribed to nor moved to.
    let single = shop.customer.post("/v1/subscriptions", shop.subscription()).await;
    single.refused(409, "already_subscribed", "/product_id");
    let large = plan(&shop, "large", 5_000).await;
    let moved = shop.customer.patch(&path(&second), json!({ "plan_id": large["id"] })).await;
    moved.refused(409, "already_subscribed", "/plan_id");
    // When one ends the next continues its counters.
    shop.customer.step(&format!("{}/cancel", path(&second))).await.ok();
    let next = shop.customer.make("subscriptions", body).await;
    assert_eq!(next["ordinal"], 1);
    for ended in [&third, &next] {
        shop.customer.step(&format!("{}/cancel", path(ended))).await.ok();
    }
    let subscription = shop.path("subscriptions");
    shop.customer.patch(&subscription, json!({ "plan_id": large["id"] })).await.ok();
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_subscriptions_as_the_plan_allows_are_made_at_once(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let several = json!({
        "name": "several", "product_id": shop.id("products"), "auto_approve": true,
        "subscriptions_per_customer": 10, "quota": { "requests": 2, "per": "month" },
    });
    let several = shop.provider.make("plans", several).await;
    let calls: Vec<_> = (0..12)
        .map(|_| {
            let (caller, mut body) = (shop.customer.clone(), shop.subscription());
            body["plan_id"] = several["id"].clone();
            tokio::spawn(async move { caller.post("/v1/subscriptions", body).await })
        })
        .collect();
    let mut ordinals = Vec::new();
    for call in calls {
        let answer = call.await.unwrap();
        match answer.status.as_u16() {
            201 => ordinals.push(answer.body["ordinal"].as_i64().unwrap()),
            _ => answer.refused(409, "already_subscribed", "/product_id"),
        }
    }
    ordinals.sort_unstable();
    assert_eq!(ordinals, (1..10).collect::<Vec<_>>(), "beside the one that was there");
}

#[tokio::test]
async fn whether_another_customer_subscribes_is_nobodys_business() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let rival = shop.provider.make("customers", json!({ "name": "Rival" })).await;
    let rival_id = rival["id"].as_str().unwrap();
    let caller = plane.token(Some(shop.id("tenants")), Some(rival_id), &CUSTOMER).await;
    // In another customer's name: as unknown as a missing customer.
    let answer = caller.post("/v1/subscriptions", shop.subscription()).await;
    answer.refused(422, "unknown_reference", "/customer_id");
    let mut own = shop.subscription();
    own["customer_id"] = json!(rival_id);
    caller.make("subscriptions", own).await;
}

#[tokio::test]
async fn customers_cancel_and_only_what_was_never_in_force_is_deleted_by_the_provider() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let subscription = shop.path("subscriptions");
    shop.customer.delete(&subscription).await.refused(403, "forbidden", "");
    let answer = shop.provider.delete(&subscription).await;
    answer.refused(409, "subscription_was_active", "");
    shop.customer.step(&format!("{subscription}/cancel")).await.ok();
    shop.provider.delete(&subscription).await.refused(409, "subscription_was_active", "");
    // Its usage can still be read.
    let usage = format!("/v1/usage?subscription_id={}", shop.id("subscriptions"));
    shop.customer.get(&usage).await.ok();
    let asked = json!({ "name": "asked", "product_id": shop.id("products") });
    let asked = shop.provider.make("plans", asked).await;
    let mut body = shop.subscription();
    body["plan_id"] = asked["id"].clone();
    let pending = shop.customer.make("subscriptions", body).await;
    assert_eq!(pending["activated_at"], Value::Null);
    shop.customer.delete(&path(&pending)).await.refused(403, "forbidden", "");
    assert_eq!(shop.provider.delete(&path(&pending)).await.status, 204);
}

#[tokio::test]
async fn a_key_for_an_ended_subscription_is_not_handed_out() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    shop.customer.step(&format!("{}/cancel", shop.path("subscriptions"))).await.ok();
    let body = json!({ "consumer_id": shop.id("consumers") });
    shop.customer.post("/v1/credentials", body).await.refused(409, "subscription_ended", "");
    let app = json!({ "customer_id": shop.id("customers"), "name": "another" });
    let app = shop.customer.make("client-apps", app).await;
    let body = json!({ "subscription_id": shop.id("subscriptions"), "client_app_id": app["id"] });
    shop.customer.post("/v1/consumers", body).await.refused(409, "subscription_ended", "");
}

#[rstest]
#[tokio::test]
async fn an_upgrade_holds_at_once_and_a_downgrade_at_the_end_of_the_period(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (small, large) = (plan(&shop, "small", 50).await, plan(&shop, "large", 500).await);
    let subscription = shop.path("subscriptions");
    let to = |plan: &Value| json!({ "plan_id": plan["id"] });
    // From 60 a minute without a quota to a quota gives less of something.
    let asked = shop.customer.patch(&subscription, to(&small)).await.ok();
    assert_eq!(asked["plan_id"], shop.id("plans"));
    assert_eq!(asked["plan_change"]["plan_id"], small["id"]);
    let at: DateTime<Utc> = asked["plan_change"]["at"].as_str().unwrap().parse().unwrap();
    assert_eq!(at, period_end(plane.now.get()));
    let store = &plane.running.store;
    assert_eq!(change_plans(store, at - TimeDelta::seconds(1)).await, 0);
    assert_eq!(change_plans(store, at).await, 1);
    let moved = shop.customer.get(&subscription).await.ok();
    assert_eq!((&moved["plan_id"], &moved["plan_change"]), (&small["id"], &Value::Null));
    let id: Uuid = shop.id("subscriptions").parse().unwrap();
    let trail = audit::of_object(store, id).await.unwrap();
    let last = trail.last().unwrap();
    assert_eq!((last.actor, last.operation.as_str()), (Actor::Job, "subscriptions.change_plan"));
    assert!(last.detail.starts_with("change_plan: moved to version 1 of plan"), "{}", last.detail);
    assert_eq!(
        last.tenant_id.map(|id| id.to_string()).as_deref(),
        shop.objects["customers"]["tenant_id"].as_str()
    );
    // Upgrades at once, downgrades later, and the request can be cancelled.
    assert_eq!(shop.customer.patch(&subscription, to(&large)).await.ok()["plan_id"], large["id"]);
    let down = shop.customer.patch(&subscription, to(&small)).await.ok();
    assert_eq!((&down["plan_id"], &down["plan_change"]["plan_id"]), (&large["id"], &small["id"]));
    let close = format!("/v1/plans/{}", small["id"].as_str().unwrap());
    shop.provider.step(&format!("{close}/deprecate")).await.ok();
    shop.provider.step(&format!("{close}/close")).await.refused(409, "in_use", "");
    shop.provider.delete(&close).await.refused(409, "in_use", "");
    let kept = shop.customer.step(&format!("{subscription}/keep-plan")).await.ok();
    assert_eq!((&kept["plan_id"], &kept["plan_change"]), (&large["id"], &Value::Null));
    let nothing = shop.customer.step(&format!("{subscription}/keep-plan")).await;
    nothing.refused(409, "no_plan_change", "");
    shop.provider.step(&format!("{close}/close")).await.ok();
}

#[tokio::test]
async fn a_cancelled_subscription_takes_its_change_of_plan_along() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let small = plan(&shop, "small", 50).await;
    let subscription = shop.path("subscriptions");
    shop.customer.patch(&subscription, json!({ "plan_id": small["id"] })).await.ok();
    let cancelled = shop.customer.step(&format!("{subscription}/cancel")).await.ok();
    assert_eq!(cancelled["plan_change"], Value::Null);
    let later = plane.now.get() + TimeDelta::days(40);
    assert_eq!(change_plans(&plane.running.store, later).await, 1, "it finds nothing to change");
    assert_eq!(shop.customer.get(&subscription).await.ok(), cancelled);
}

#[tokio::test]
async fn a_subscriber_can_be_moved_to_the_new_terms_of_its_own_plan() {
    let plane = ControlPlane::start().await;
    let shop = Shop::open(&plane, "acme").await;
    let subscription = shop.path("subscriptions");
    let newest = format!("{subscription}/move-to-current-plan-version");
    shop.customer.step(&newest).await.refused(409, "already_current", "");
    let more = json!({ "rate_limit": { "requests": 600, "per": "minute" } });
    shop.provider.patch(&shop.path("plans"), more).await.ok();
    let moved = shop.customer.step(&newest).await.ok();
    assert_eq!((&moved["plan_version"], &moved["plan_change"]), (&json!(2), &Value::Null));
    let less = json!({ "rate_limit": { "requests": 6, "per": "minute" } });
    shop.provider.patch(&shop.path("plans"), less).await.ok();
    let later = shop.provider.step(&newest).await.ok();
    assert_eq!(
        (&later["plan_version"], &later["plan_change"]["plan_version"]),
        (&json!(2), &json!(3))
    );
    shop.customer.step(&format!("{subscription}/cancel")).await.ok();
    shop.customer.step(&newest).await.refused(409, "invalid_transition", "");
}

#[tokio::test]
async fn the_provider_revokes_any_key_of_its_product_and_no_other_provider_does() {
    let plane = ControlPlane::start().await;
    let (shop, other) = (Shop::open(&plane, "acme").await, Shop::open(&plane, "other").await);
    for role in ["org-admin", "business-manager"] {
        let key = json!({ "consumer_id": shop.id("consumers") });
        let key = shop.customer.make("credentials", key).await;
        let revoke = format!("/v1/credentials/{}/revoke", key["id"].as_str().unwrap());
        other.provider.step(&revoke).await.refused(404, "not_found", "");
        let provider = plane.token(Some(shop.id("tenants")), None, &[role]).await;
        assert_eq!(provider.step(&revoke).await.ok()["status"], "revoked", "{role}");
        let id: Uuid = key["id"].as_str().unwrap().parse().unwrap();
        let trail = audit::of_object(&plane.running.store, id).await.unwrap();
        let me = provider.get("/v1/me").await.ok();
        let who = Actor::Token(me["api_token_id"].as_str().unwrap().parse().unwrap());
        let last = trail.last().unwrap();
        assert_eq!((last.actor, last.operation.as_str()), (who, "credentials.revoke"));
        // It can neither issue nor change credentials.
        let body = json!({ "consumer_id": shop.id("consumers") });
        provider.post("/v1/credentials", body).await.refused(403, "forbidden", "");
    }
    let gateways = plane.token(Some(shop.id("tenants")), None, &["gateway-owner"]).await;
    let revoke = format!("{}/revoke", shop.path("credentials"));
    gateways.step(&revoke).await.refused(403, "forbidden", "");
}
