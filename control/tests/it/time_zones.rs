//! Quotas in time zones and by the year, from the API to the agents.

use imp_grammar::features;
use imp_proto::config as pb;
use imp_store::testing::Kind;
use rstest::rstest;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::control_plane::{ControlPlane, Shop};

fn plan(shop: &Shop, name: &str, approved: bool, time_zone: &str) -> Value {
    json!({
        "name": name, "product_id": shop.id("products"), "auto_approve": approved,
        "subscriptions_per_customer": 9,
        "quota": { "requests": 7, "per": "month", "time_zone": time_zone },
        "limits": [{ "name": "daily", "amount": 2, "window": "day", "time_zone": time_zone }],
    })
}

fn id(object: &Value) -> String {
    object["id"].as_str().unwrap().to_owned()
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_names_a_time_zone_and_agents_are_sent_its_rules(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let provider = &shop.provider;
    for (time_zone, code) in [
        ("Europe/Munich", "unknown_time_zone"),
        ("europe/berlin", "unknown_time_zone"),
        (&*"z".repeat(65), "too_long"),
    ] {
        let wrong = plan(&shop, "wrong", true, time_zone);
        provider.post("/v1/plans", wrong).await.refused(422, code, "/quota/time_zone");
    }
    let mut both = plan(&shop, "both", true, "Europe/Berlin");
    both["limits"][0]["utc_offset_minutes"] = json!(60);
    provider.post("/v1/plans", both).await.refused(422, "conflict", "/limits/0/time_zone");
    let mut number = plan(&shop, "number", true, "Europe/Berlin");
    number["quota"]["time_zone"] = json!(60);
    provider.post("/v1/plans", number).await.refused(400, "invalid_type", "/quota/time_zone");

    let agent = Agent::start(&plane, shop.id("clusters")).await;
    agent.held.reach([1, 1, 1, 1]).await;
    let made = provider.make("plans", plan(&shop, "zoned", true, "Europe/Berlin")).await;
    let path = format!("/v1/plans/{}", id(&made));
    let read = provider.get(&path).await.ok();
    assert_eq!(read["quota"]["time_zone"], "Europe/Berlin");
    assert_eq!(read["limits"][0]["time_zone"], "Europe/Berlin");
    let mut body = shop.subscription();
    body["plan_id"] = made["id"].clone();
    let subscription = shop.customer.make("subscriptions", body).await;
    let own = id(&subscription);
    let sent = agent.held.one(move |it: &pb::Entitlement| it.id == own).await;
    let zone = pb::TimeZone {
        name: "Europe/Berlin".to_owned(),
        rule: "CET-1CEST,M3.5.0,M10.5.0/3".to_owned(),
        changes: vec![],
    };
    assert_eq!(sent.time_zones, [zone], "once, for both limits");
    for limit in &sent.limits {
        // Standard time is for agents that a former release's control plane would have.
        assert_eq!((limit.time_zone.as_str(), limit.utc_offset_minutes), ("Europe/Berlin", 60));
    }

    // Another zone is a new version of the terms, and gives less than the former one.
    let edit = json!({ "quota": { "time_zone": "Asia/Gaza" } });
    let edited = provider.patch(&path, edit).await.ok();
    assert_eq!(edited["plan_version"], 2);
    let subscription = format!("/v1/subscriptions/{}", id(&subscription));
    let moved = provider.step(&format!("{subscription}/move-to-current-plan-version")).await.ok();
    assert_eq!(moved["plan_change"]["plan_version"], 2, "at the end of the month: {moved}");
    // And from an offset to a zone.
    let offset = json!({ "quota": { "time_zone": null, "utc_offset_minutes": -300 } });
    let edited = provider.patch(&path, offset).await.ok();
    assert_eq!(edited["quota"]["utc_offset_minutes"], -300);
    assert_eq!(edited["quota"].get("time_zone"), None);
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_former_agent_would_count_in_other_windows_is_refused(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    const CODE: &str = "unsupported_by_agents";
    const LACKS: [&str; 2] = [features::TIME_ZONES, features::YEAR_QUOTAS];
    let plane = ControlPlane::on(kind).await;
    let shop = Shop::open(&plane, "acme").await;
    let (provider, customer) = (&shop.provider, &shop.customer);
    let publish = shop.path("product-publishes");
    // Nobody is on this plan yet.
    let open = provider.make("plans", plan(&shop, "open", true, "Europe/Berlin")).await;
    let asked = provider.make("plans", plan(&shop, "asked", false, "Europe/Berlin")).await;
    let mut yearly = plan(&shop, "yearly", true, "UTC");
    yearly["quota"] = json!({ "requests": 7, "per": "year" });
    yearly["limits"] = json!([]);
    let yearly = provider.make("plans", yearly).await;
    let mut by_year = shop.subscription();
    by_year["plan_id"] = yearly["id"].clone();
    let mut waiting = shop.subscription();
    waiting["plan_id"] = asked["id"].clone();
    let waiting = customer.make("subscriptions", waiting).await;
    let approve = format!("/v1/subscriptions/{}/approve", id(&waiting));

    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    report.lacks(&LACKS, &agent, &shop, &plane.admin).await;
    let mut bought = shop.subscription();
    bought["plan_id"] = open["id"].clone();
    let move_there = json!({ "plan_id": open["id"] });
    let first = shop.path("subscriptions");
    let answer = customer.post("/v1/subscriptions", bought.clone()).await;
    let detail = answer.body["errors"][0]["detail"].as_str().unwrap_or_default().to_owned();
    answer.refused(422, CODE, "/plan_id");
    for part in ["plan 'open'", "'time_zones'", &*agent.id, "old"] {
        assert!(detail.contains(part), "{part}: {detail}");
    }
    provider.patch(&first, move_there.clone()).await.refused(422, CODE, "/plan_id");
    let answer = customer.post("/v1/subscriptions", by_year.clone()).await;
    assert!(answer.body.to_string().contains("'year_quotas'"), "{answer:?}");
    answer.refused(422, CODE, "/plan_id");
    provider.step(&approve).await.refused(422, CODE, "");
    let answer = provider.step(&format!("{publish}/redeploy")).await;
    let words =
        ["'time_zones'", "'year_quotas'"].map(|word| answer.body.to_string().contains(word));
    assert_eq!(words, [true, true], "{answer:?}");
    answer.refused(422, CODE, "/product_id");
    let spec = shop.publish("second.example.com");
    provider.post("/v1/product-publishes", spec.clone()).await.refused(422, CODE, "/product_id");
    // Where the product is not published, nobody counts.
    let mut dev = bought.clone();
    dev["environment"] = json!("dev");
    customer.make("subscriptions", dev).await;
    // A plan without a zone is as it was.
    let mut plain = plan(&shop, "plain", true, "UTC");
    plain["quota"] = json!({ "requests": 7, "per": "month", "utc_offset_minutes": 60 });
    plain["limits"] = json!([]);
    let plain = provider.make("plans", plain).await;
    let mut other = shop.subscription();
    other["plan_id"] = plain["id"].clone();
    customer.make("subscriptions", other).await;

    report.lacks(&[], &agent, &shop, &plane.admin).await;
    customer.make("subscriptions", bought).await;
    let id = id(&customer.make("subscriptions", by_year).await);
    let sent = agent.held.one(move |it: &pb::Entitlement| it.id == id).await;
    assert_eq!(sent.limits[0].window(), pb::limit::Window::CalendarYear);
    provider.patch(&first, move_there).await.ok();
    provider.step(&approve).await.ok();
    provider.step(&format!("{publish}/redeploy")).await.ok();
    provider.make("product-publishes", spec).await;
}
