//! Quotas whose windows begin on the day of the subscription, from the API to the agents.

use chrono::{DateTime, TimeDelta, Utc};
use imp_grammar::features;
use imp_proto::config as pb;
use imp_proto::config::entitlement::State;
use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::control_plane::{ControlPlane, Shop};

fn plan(shop: &Shop, name: &str, approved: bool, requests: u64) -> Value {
    json!({
        "name": name, "product_id": shop.id("products"), "auto_approve": approved,
        "subscriptions_per_customer": 9,
        "quota": {
            "requests": requests, "per": "month", "time_zone": "Pacific/Kiritimati", "anchor": "subscription",
        },
        "limits": [
            { "name": "weekly", "amount": requests, "window": "week", "utc_offset_minutes": -600,
              "anchor": "subscription" },
            { "name": "yearly", "amount": requests, "window": "year" },
        ],
    })
}

fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}

fn on(shop: &Shop, plan: &Value) -> Value {
    let mut body = shop.subscription();
    body["plan_id"] = plan["id"].clone();
    body
}

/// The dates of an instant where the plan's limits are, in days since 1970-01-01; none for the calendar.
fn days(activated_at: &Value) -> Vec<u32> {
    let at: DateTime<Utc> = activated_at.as_str().unwrap().parse().unwrap();
    let day = |hours: i64| u32::try_from((at.timestamp() + hours * 3_600) / 86_400).unwrap();
    vec![day(14), day(-10), 0]
}

/// The anchors that an agent is sent for a subscription in this state on this plan.
async fn sent_in(agent: &Agent, state: State, subscription: &Value, plan: &Value) -> Vec<u32> {
    let (own, plan) = (id(subscription), id(plan));
    let is_it =
        move |it: &pb::Entitlement| it.id == own && it.plan_id == plan && it.state() == state;
    let sent = agent.held.one(is_it).await;
    sent.limits.iter().map(|limit| limit.anchor_day).collect()
}

async fn sent(agent: &Agent, subscription: &Value, plan: &Value) -> Vec<u32> {
    sent_in(agent, State::Active, subscription, plan).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_begin_on_the_day_on_which_the_subscription_was_first_active(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (provider, customer) = (&shop.provider, &shop.customer);
    let mut daily = plan(&shop, "daily", true, 1);
    daily["quota"]["per"] = json!("day");
    provider.post("/v1/plans", daily).await.refused(422, "conflict", "/quota/anchor");
    let mut hourly = plan(&shop, "hourly", true, 1);
    hourly["limits"] =
        json!([{ "name": "rate", "amount": 1, "window": "hour", "anchor": "subscription" }]);
    provider.post("/v1/plans", hourly).await.refused(422, "conflict", "/limits/0/anchor");
    let mut unknown = plan(&shop, "unknown", true, 1);
    unknown["quota"]["anchor"] = json!("purchase");
    provider.post("/v1/plans", unknown).await.refused(400, "invalid_value", "/quota/anchor");

    let silver = provider.make("plans", plan(&shop, "silver", true, 5)).await;
    let asked = provider.make("plans", plan(&shop, "asked", false, 5)).await;
    let read = provider.get(&format!("/v1/plans/{}", id(&silver))).await.ok();
    assert_eq!(read["quota"]["anchor"], "subscription");
    assert_eq!(read["limits"][1].get("anchor"), None, "the calendar's, as it was");
    let first = customer.make("subscriptions", on(&shop, &silver)).await;
    let waiting = customer.make("subscriptions", on(&shop, &asked)).await;
    plane.now.advance(TimeDelta::days(3));
    let approve = format!("/v1/subscriptions/{}/approve", id(&waiting));
    let approved = provider.step(&approve).await.ok();
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    assert_eq!(sent(&agent, &first, &silver).await, days(&first["activated_at"]));
    let (bought, began) = (days(&first["activated_at"]), days(&approved["activated_at"]));
    assert_eq!(began[0], bought[0] + 3, "the approval and not the creation");
    assert_eq!(sent(&agent, &waiting, &asked).await, began);

    // A change of plan keeps it, and so does a subscription that goes on with the counts of an ended one.
    let platinum = provider.make("plans", plan(&shop, "platinum", true, 9)).await;
    let path = format!("/v1/subscriptions/{}", id(&first));
    let moved = provider.patch(&path, json!({ "plan_id": platinum["id"] })).await.ok();
    assert_eq!(moved["plan_change"], Value::Null, "it gives as much");
    assert_eq!(sent(&agent, &first, &platinum).await, bought);
    let suspend = json!({ "reason": "unpaid" });
    provider.post(&format!("{path}/suspend"), suspend).await.ok();
    assert_eq!(sent_in(&agent, State::Suspended, &first, &platinum).await, bought);
    provider.step(&format!("{path}/resume")).await.ok();
    assert_eq!(sent(&agent, &first, &platinum).await, bought);
    provider.step(&format!("{path}/cancel")).await.ok();
    let second = customer.make("subscriptions", on(&shop, &silver)).await;
    assert_eq!(second["ordinal"], first["ordinal"]);
    assert_ne!(days(&second["activated_at"]), bought);
    assert_eq!(sent(&agent, &second, &silver).await, bought);
    // One beside it counts for itself, from its own day.
    let beside = customer.make("subscriptions", on(&shop, &silver)).await;
    assert_eq!(sent(&agent, &beside, &silver).await, days(&beside["activated_at"]));

    // To the calendar's: other windows, so at the end of the month.
    let calendar = json!({ "quota": { "anchor": null } });
    let edited = provider.patch(&format!("/v1/plans/{}", id(&silver)), calendar).await.ok();
    assert_eq!((&edited["plan_version"], edited["quota"].get("anchor")), (&json!(2), None));
    let path = format!("/v1/subscriptions/{}/move-to-current-plan-version", id(&beside));
    assert_eq!(provider.step(&path).await.ok()["plan_change"]["plan_version"], 2);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_would_count_by_the_calendar_get_no_such_plan(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    const CODE: &str = "unsupported_by_agents";
    const LACKS: [&str; 1] = [features::ANCHORED_QUOTAS];
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (provider, customer) = (&shop.provider, &shop.customer);
    let mut open = plan(&shop, "open", true, 5);
    open["limits"] = json!([]);
    open["quota"] = json!({ "requests": 5, "per": "month", "anchor": "subscription" });
    let open = provider.make("plans", open).await;
    let asked = provider.make("plans", plan(&shop, "asked", false, 5)).await;
    let waiting = customer.make("subscriptions", on(&shop, &asked)).await;
    let approve = format!("/v1/subscriptions/{}/approve", id(&waiting));
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    report.lacks(&LACKS, &agent, &shop, &plane.admin).await;

    let answer = customer.post("/v1/subscriptions", on(&shop, &open)).await;
    let detail = answer.body["errors"][0]["detail"].as_str().unwrap_or_default().to_owned();
    answer.refused(422, CODE, "/plan_id");
    for part in ["plan 'open'", "'anchored_quotas'", &*agent.id, "old"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    let (first, move_there) = (shop.path("subscriptions"), json!({ "plan_id": open["id"] }));
    provider.patch(&first, move_there.clone()).await.refused(422, CODE, "/plan_id");
    provider.step(&approve).await.refused(422, CODE, "");
    let redeploy = format!("{}/redeploy", shop.path("product-publishes"));
    let answer = provider.step(&redeploy).await;
    assert!(answer.body.to_string().contains("'anchored_quotas'"), "{answer:?}");
    answer.refused(422, CODE, "/product_id");

    report.lacks(&[], &agent, &shop, &plane.admin).await;
    customer.make("subscriptions", on(&shop, &open)).await;
    provider.patch(&first, move_there).await.ok();
    provider.step(&approve).await.ok();
    provider.step(&redeploy).await.ok();
}
