//! Agents' reports and their effects.

use imp_proto::agent as pb;
use imp_store::testing::{Database, Kind};
use rstest::rstest;
use serde_json::{Value, json};

use crate::agent::{Agent, shows, status};
use crate::control_plane::{ControlPlane, Shop};

async fn on(kind: Kind) -> (Database, ControlPlane, Shop) {
    let database = Database::fresh(kind).await.unwrap();
    let plane = ControlPlane::start_on(Some(database.url())).await;
    let shop = Shop::open(&plane, "acme").await;
    (database, plane, shop)
}

fn nodes(acked: u32, nacked: u32, behind: u32) -> Value {
    json!({ "acked": acked, "nacked": nacked, "behind": behind })
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_becomes_active_with_the_last_acknowledgement(#[case] kind: Kind) {
    let (_database, plane, shop) = on(kind).await;
    let (path, publish) = (shop.path("product-publishes"), shop.id("product-publishes"));
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    report.beat(&["envoy-1", "envoy-2"]).await;
    report.statuses(vec![status(publish, 1, [1, 0, 1])]).await;
    let seen = shows(&plane.admin, &path, |it| it["status"] == "deploying").await;
    assert_eq!((&seen["nodes"], &seen["activated_at"]), (&nodes(1, 0, 1), &Value::Null));
    report.statuses(vec![status(publish, 1, [2, 0, 0])]).await;
    let seen = shows(&plane.admin, &path, |it| it["status"] == "active").await;
    assert_eq!((&seen["nodes"], &seen["acked_revision"]), (&nodes(2, 0, 0), &json!(1)));
    assert!(seen["activated_at"].is_string());
    assert_eq!(seen["version"], 1, "a report is no edit");

    // The next revision is rejected; the former one keeps serving.
    shop.provider.step(&format!("{path}/redeploy")).await.ok();
    report.statuses(vec![status(publish, 1, [2, 0, 0])]).await;
    let seen = shows(&plane.admin, &path, |it| it["nodes"] == nodes(0, 0, 2)).await;
    assert_eq!((&seen["status"], &seen["acked_revision"]), (&json!("pending"), &json!(1)));
    let error = pb::PublishError {
        code: "envoy_nack".to_owned(),
        resource: "routes/one".to_owned(),
        envoy_message: "invalid regex\0".to_owned(),
        hint: "see RE2".to_owned(),
    };
    let refused = pb::PublishStatus { error: Some(error), ..status(publish, 2, [0, 2, 0]) };
    report.statuses(vec![refused]).await;
    let seen = shows(&plane.admin, &path, |it| it["status"] == "failed").await;
    assert!(seen["last_error"]["envoy_message"].as_str().unwrap().starts_with("invalid regex"));
    assert_eq!(
        (&seen["last_error"]["hint"], &seen["acked_revision"]),
        (&json!("see RE2"), &json!(1))
    );
    report.statuses(vec![status(publish, 2, [2, 0, 0])]).await;
    let seen = shows(&plane.admin, &path, |it| it["status"] == "active").await;
    assert_eq!((&seen["last_error"], &seen["acked_revision"]), (&Value::Null, &json!(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_agents_of_a_pair_must_agree_and_one_that_leaves_counts_no_more() {
    let (_database, plane, shop) = on(Kind::Sqlite).await;
    let (path, publish) = (shop.path("product-publishes"), shop.id("product-publishes"));
    let one = Agent::start(&plane, shop.id("clusters")).await;
    let two = Agent::start(&plane, shop.id("clusters")).await;
    let (first, second) = (one.report().await, two.report().await);
    for report in [&first, &second] {
        report.beat(&["envoy"]).await;
        report.statuses(vec![status(publish, 1, [0, 0, 1])]).await;
    }
    shows(&plane.admin, &path, |it| it["nodes"] == nodes(0, 0, 2)).await;
    first.statuses(vec![status(publish, 1, [1, 0, 0])]).await;
    let seen = shows(&plane.admin, &path, |it| it["nodes"] == nodes(1, 0, 1)).await;
    assert_eq!(seen["status"], "deploying");
    // The one that is behind disconnects: the others agree.
    drop(second);
    shows(&plane.admin, &path, |it| it["status"] == "active" && it["nodes"] == nodes(1, 0, 0))
        .await;
    first.statuses(vec![status(publish, 1, [0, 0, 0])]).await;
    let seen = shows(&plane.admin, &path, |it| it["nodes"] == nodes(0, 0, 0)).await;
    assert_eq!(seen["status"], "active");
    // After it reconnects, it reports everything again.
    let second = two.report().await;
    second.statuses(vec![status(publish, 1, [3, 0, 0])]).await;
    shows(&plane.admin, &path, |it| it["nodes"] == nodes(3, 0, 0)).await;
    drop((first, second));
    shows(&plane.admin, &path, |it| it["nodes"] == nodes(0, 0, 0)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resumed_publish_is_active_again_although_the_agent_has_nothing_new_to_say() {
    let (_database, plane, shop) = on(Kind::Sqlite).await;
    let (path, publish) = (shop.path("product-publishes"), shop.id("product-publishes"));
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    report.beat(&["envoy"]).await;
    report.statuses(vec![status(publish, 1, [1, 0, 0])]).await;
    shows(&plane.admin, &path, |it| it["status"] == "active").await;
    shop.provider.step(&format!("{path}/suspend")).await.ok();
    report.statuses(vec![status(publish, 1, [1, 0, 0])]).await;
    assert_eq!(shop.provider.step(&format!("{path}/resume")).await.ok()["status"], "deploying");
    shows(&plane.admin, &path, |it| it["status"] == "active").await;
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_counts_once_however_often_it_is_reported(#[case] kind: Kind) {
    let (_database, plane, shop) = on(kind).await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let mut report = agent.report().await;
    let hour = plane.now.get().timestamp() / 3600 * 3_600_000;
    let counter = |allowed, limited| pb::UsageCounter {
        publish_id: shop.id("product-publishes").to_owned(),
        subscription_id: shop.id("subscriptions").to_owned(),
        consumer_id: shop.id("consumers").to_owned(),
        hour_ms: hour,
        allowed,
        limited,
        ..Default::default()
    };
    report.usage(1, vec![counter(5, 1)]).await;
    report.usage(1, vec![counter(5, 1)]).await;
    report.usage(2, vec![counter(7, 2)]).await;
    report.usage(1, vec![counter(5, 1)]).await;
    let path = format!("/v1/usage?subscription_id={}", shop.id("subscriptions"));
    let seen = plane.admin.get(&path).await.ok();
    let [record] = &seen["items"].as_array().unwrap()[..] else { panic!("{seen:#}") };
    assert_eq!((&record["allowed"], &record["limited"]), (&json!(7), &json!(2)));
    assert_eq!(record["consumer_id"], shop.id("consumers"));
    // An agent of a former release sends no more; the rest is taken from the subscription.
    assert_eq!(record["customer_id"], shop.id("customers"));
    assert_eq!(
        (&record["plan_id"], &record["plan_version"]),
        (&json!(shop.id("plans")), &json!(1))
    );
    assert_eq!(record["environment"], "prod");

    // Calls served before the publish was removed are reported after.
    report.statuses(vec![status(shop.id("product-publishes"), 1, [1, 0, 0])]).await;
    assert_eq!(shop.provider.delete(&shop.path("product-publishes")).await.status, 204);
    agent.held.reach([0, 0, 0, 0]).await;
    report.usage(3, vec![counter(9, 2)]).await;
    let seen = plane.admin.get(&path).await.ok();
    assert_eq!(seen["items"][0]["allowed"], 9);
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_says_which_version_of_the_plan_it_was_counted_under(#[case] kind: Kind) {
    let (_database, plane, shop) = on(kind).await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let mut report = agent.report().await;
    let counter = |plan_version, allowed| pb::UsageCounter {
        publish_id: shop.id("product-publishes").to_owned(),
        subscription_id: shop.id("subscriptions").to_owned(),
        consumer_id: shop.id("consumers").to_owned(),
        hour_ms: plane.now.get().timestamp() / 3600 * 3_600_000,
        allowed,
        limited: 0,
        tenant_id: "somebody else's".to_owned(),
        customer_id: "nobody's".to_owned(),
        plan_id: shop.id("plans").to_owned(),
        plan_version,
        product_id: shop.id("products").to_owned(),
        environment: "dev".to_owned(),
    };
    // The plan's terms changed inside the hour. The last one was counted before the agent knew the
    // version.
    report.usage(1, vec![counter(1, 5), counter(2, 7), counter(0, 1)]).await;
    report.usage(2, vec![counter(2, 8)]).await;
    let path = format!("/v1/usage?subscription_id={}", shop.id("subscriptions"));
    let seen = plane.admin.get(&path).await.ok();
    let records: Vec<_> = seen["items"].as_array().unwrap().iter().collect();
    let counted: Vec<_> =
        records.iter().map(|it| (it["plan_version"].clone(), it["allowed"].clone())).collect();
    assert_eq!(counted, [(json!(1), json!(6)), (json!(2), json!(8))]);
    for record in records {
        assert_eq!(record["customer_id"], shop.id("customers"), "what is known here counts");
        assert_eq!(
            (&record["environment"], &record["plan_id"]),
            (&json!("prod"), &json!(shop.id("plans")))
        );
    }
    let strange = pb::UsageCounter { plan_id: "no id".to_owned(), ..counter(1, 100) };
    report.usage(3, vec![strange]).await;
    assert_eq!(plane.admin.get(&path).await.ok(), seen);
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_speaks_for_its_own_cluster_only(#[case] kind: Kind) {
    let (_database, plane, acme) = on(kind).await;
    let globex = Shop::open(&plane, "globex").await;
    let agent = Agent::start(&plane, globex.id("clusters")).await;
    let mut report = agent.report().await;
    report.beat(&["envoy"]).await;
    let foreign = acme.id("product-publishes");
    let own = globex.id("product-publishes");
    let unknown = imp_core::ProductPublishId::new().to_string();
    let before = plane.admin.get(&acme.path("product-publishes")).await.ok();
    let said = [foreign, &unknown, "no id", own].map(|id| status(id, 1, [1, 0, 0]));
    report.statuses(said.to_vec()).await;
    // The other reports beside it count.
    shows(&plane.admin, &globex.path("product-publishes"), |it| it["status"] == "active").await;
    assert_eq!(plane.admin.get(&acme.path("product-publishes")).await.ok(), before);

    let hour_ms = plane.now.get().timestamp() / 3600 * 3_600_000;
    let counter = |publish: &str, of: &Shop, consumer: &str| pb::UsageCounter {
        publish_id: publish.to_owned(),
        subscription_id: of.id("subscriptions").to_owned(),
        consumer_id: consumer.to_owned(),
        hour_ms,
        allowed: 1,
        limited: 0,
        ..Default::default()
    };
    let late = pb::UsageCounter {
        hour_ms: hour_ms + 3 * 3_600_000,
        ..counter(own, &globex, globex.id("consumers"))
    };
    let counters = vec![
        counter(foreign, &acme, acme.id("consumers")),
        counter(own, &acme, acme.id("consumers")),
        counter(foreign, &globex, globex.id("consumers")),
        counter(own, &globex, acme.id("consumers")),
        counter(&unknown, &globex, globex.id("consumers")),
        counter("no id", &globex, globex.id("consumers")),
        late,
    ];
    report.usage(1, counters).await;
    for shop in [&acme, &globex] {
        let path = format!("/v1/usage?subscription_id={}", shop.id("subscriptions"));
        assert_eq!(plane.admin.get(&path).await.ok()["items"], json!([]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_show_the_agent_and_its_envoys() {
    let (_database, plane, shop) = on(Kind::Sqlite).await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let path = format!("/v1/clusters/{}/agents/{}", shop.id("clusters"), agent.id);
    let report = agent.report().await;
    report.beat(&["envoy-1"]).await;
    let seen = shows(&plane.admin, &path, |it| it["status"] == "connected").await;
    assert_eq!(
        (&seen["agent_version"], &seen["nodes"][0]["id"]),
        (&json!("1.2.3"), &json!("envoy-1"))
    );
    plane.now.advance(chrono::TimeDelta::seconds(31));
    shows(&plane.admin, &path, |it| it["status"] == "stale").await;
    // A heartbeat without news.
    report.beat(&["envoy-1"]).await;
    shows(&plane.admin, &path, |it| it["status"] == "connected").await;
    report.beat(&[]).await;
    shows(&plane.admin, &path, |it| it["nodes"] == json!([])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_says_a_lot_holds_nobody_up_and_its_last_word_counts() {
    let (_database, plane, acme) = on(Kind::Sqlite).await;
    let globex = Shop::open(&plane, "globex").await;
    let (loud, quiet) = (
        Agent::start(&plane, acme.id("clusters")).await,
        Agent::start(&plane, globex.id("clusters")).await,
    );
    let (flood, report) = (loud.report().await, quiet.report().await);
    let own = acme.id("product-publishes").to_owned();
    let flooding = tokio::spawn(async move {
        for round in 0..40u32 {
            let invented = (0..500).map(|_| imp_core::ProductPublishId::new().to_string());
            let said = invented.map(|id| status(&id, 1, [1, 0, 0]));
            flood.statuses(said.chain([status(&own, 1, [round, 0, 1])]).collect()).await;
            flood.beat(&[&*format!("envoy-{round}")]).await;
        }
        flood.statuses(vec![status(&own, 1, [40, 0, 0])]).await;
        flood
    });
    report.beat(&["envoy"]).await;
    report.statuses(vec![status(globex.id("product-publishes"), 1, [1, 0, 0])]).await;
    let path = globex.path("product-publishes");
    shows(&plane.admin, &path, |it| it["status"] == "active").await;
    let path = acme.path("product-publishes");
    let seen = shows(&plane.admin, &path, |it| it["status"] == "active").await;
    assert_eq!(seen["nodes"], nodes(40, 0, 0));
    drop(flooding.await.unwrap());
}

fn refusal(gateway: &str, words: &str) -> pb::GatewayRefusal {
    let error = pb::PublishError {
        code: "envoy_nack".to_owned(),
        resource: "listener port-8080".to_owned(),
        envoy_message: words.to_owned(),
        hint: "free the port".to_owned(),
    };
    pb::GatewayRefusal { gateway_id: gateway.to_owned(), error: Some(error) }
}

/// A gateway that agents or Envoys refuse shows it, and so does each publish that waits for it.
#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_gateway_is_told_on_it_and_on_its_publishes_until_it_is_accepted(
    #[case] kind: Kind,
) {
    let (_database, plane, shop) = on(kind).await;
    let stranger = Shop::open(&plane, "other").await;
    let (path, publish) = (shop.path("product-publishes"), shop.id("product-publishes"));
    let (gateway, at) = (shop.id("gateways"), shop.path("gateways"));
    let provider = &shop.provider;
    assert_eq!(provider.get(&at).await.ok()["conditions"], json!([]));
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    report.beat(&["envoy"]).await;
    // Neither another cluster's gateway nor an unknown one becomes a row.
    let foreign = refusal(stranger.id("gateways"), "not yours");
    let nothing = refusal("00000000-0000-7000-8000-0000000000ff", "nothing");
    let busy = "cannot bind '0.0.0.0:8080': Address already in use\0";
    report.gateways(vec![refusal(gateway, busy), foreign, nothing]).await;
    report.statuses(vec![status(publish, 1, [0, 0, 1])]).await;
    let seen = shows(provider, &at, |it| it["conditions"] != json!([])).await;
    let [condition] = &seen["conditions"].as_array().unwrap()[..] else { panic!("{seen:#}") };
    assert_eq!(condition["cluster_id"], shop.id("clusters"));
    assert_eq!(condition["last_error"]["code"], "envoy_nack");
    assert!(condition["since"].is_string() && seen["version"] == 1, "a report is no edit");
    let told = stranger.provider.get(&stranger.path("gateways")).await.ok();
    assert_eq!(told["conditions"], json!([]));
    let seen = shows(provider, &path, |it| it["status"] == "deploying").await;
    let message = seen["message"].as_str().unwrap();
    assert!(message.contains(gateway) && message.contains("Address already in use"), "{message}");
    // What was read may be sent back.
    let read = provider.get(&at).await.ok();
    assert_eq!(provider.put(&at, read).await.ok()["version"], 1);

    // With another message, it keeps the time of the first.
    plane.now.advance(chrono::TimeDelta::seconds(5));
    report.gateways(vec![refusal(gateway, "Permission denied")]).await;
    let is_new =
        |it: &Value| it["conditions"][0]["last_error"]["envoy_message"] == "Permission denied";
    let seen = shows(provider, &at, is_new).await;
    assert_eq!(seen["conditions"][0]["since"], condition["since"]);
    // No agent is left to report otherwise.
    drop(report);
    let report = agent.report().await;
    report.beat(&["envoy"]).await;
    assert!(is_new(&provider.get(&at).await.ok()));
    report.gateways(vec![]).await;
    shows(provider, &at, |it| it["conditions"] == json!([])).await;
    report.statuses(vec![status(publish, 1, [0, 0, 1])]).await;
    let seen = shows(provider, &path, |it| it["nodes"] == nodes(0, 0, 1)).await;
    assert_eq!(seen["message"], "0 of 1 Envoys have acknowledged revision 1");
    report.statuses(vec![status(publish, 1, [1, 0, 0])]).await;
    let seen = shows(provider, &path, |it| it["status"] == "active").await;
    assert_eq!(seen.get("message"), None, "{seen:#}");
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_a_list_has_no_room_for_is_not_accepted(#[case] kind: Kind) {
    let (_database, plane, shop) = on(kind).await;
    let (provider, at) = (&shop.provider, shop.path("gateways"));
    let listener = json!([{ "name": "http", "port": 9000, "protocol": "HTTP" }]);
    let second = json!({ "name": "second", "listeners": listener });
    let second = provider.make("gateways", second).await;
    let mut publish = shop.publish("second.example.com");
    publish["gateway_id"] = second["id"].clone();
    provider.make("product-publishes", publish).await;
    let second = second["id"].as_str().unwrap();
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    report.gateways(vec![refusal(shop.id("gateways"), "busy")]).await;
    shows(provider, &at, |it| it["conditions"] != json!([])).await;
    report.some_gateways(vec![refusal(second, "busy")]).await;
    let beside = format!("/v1/gateways/{second}");
    shows(provider, &beside, |it| it["conditions"] != json!([])).await;
    assert_ne!(provider.get(&at).await.ok()["conditions"], json!([]));
    report.gateways(vec![refusal(second, "busy")]).await;
    shows(provider, &at, |it| it["conditions"] == json!([])).await;
}

/// Its condition goes with its last publish, and what an agent says all the time is no news.
#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_is_still_refused_says_so_when_it_has_a_publish_again(#[case] kind: Kind) {
    let (_database, plane, shop) = on(kind).await;
    let (provider, at) = (&shop.provider, shop.path("gateways"));
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    report.gateways(vec![refusal(shop.id("gateways"), "Address already in use")]).await;
    shows(provider, &at, |it| it["conditions"] != json!([])).await;
    assert_eq!(provider.delete(&shop.path("product-publishes")).await.status, 204);
    assert_eq!(provider.get(&at).await.ok()["conditions"], json!([]));
    provider.make("product-publishes", shop.publish("again.example.com")).await;
    let seen = shows(provider, &at, |it| it["conditions"] != json!([])).await;
    let words = &seen["conditions"][0]["last_error"]["envoy_message"];
    assert_eq!(words, "Address already in use");
}

/// `deploying` is no state to stay in: it says what it waits for, and fails when those who have it say
/// nothing.
#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_envoys_do_not_answer_fails_after_ten_seconds_and_what_nobody_has_waits_and_says_for_what(
    #[case] kind: Kind,
) {
    let (_database, plane, shop) = on(kind).await;
    let (path, publish) = (shop.path("product-publishes"), shop.id("product-publishes"));
    let message = |words: &'static str| {
        move |it: &Value| it["message"].as_str().is_some_and(|told| told.contains(words))
    };
    let ten = chrono::TimeDelta::seconds(10);
    shows(&plane.admin, &path, message("has no agent")).await;
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    report.beat(&[]).await;
    shows(&plane.admin, &path, message("no Envoy of its gateway")).await;
    report.statuses(vec![status(publish, 1, [0, 0, 0])]).await;
    shows(&plane.admin, &path, |it| it["status"] == "deploying").await;
    plane.now.advance(ten);
    report.beat(&["envoy"]).await;
    let seen = shows(&plane.admin, &path, message("on its way")).await;
    assert_eq!(seen["status"], "deploying", "no Envoy had it");

    report.statuses(vec![status(publish, 1, [0, 0, 2])]).await;
    shows(&plane.admin, &path, message("0 of 2 Envoys")).await;
    plane.now.advance(ten / 2);
    // Long enough for the next check.
    tokio::time::sleep(std::time::Duration::from_millis(600)).await;
    assert_eq!(plane.admin.get(&path).await.ok()["status"], "deploying", "the time is not up");
    plane.now.advance(ten / 2);
    let seen = shows(&plane.admin, &path, |it| it["status"] == "failed").await;
    assert_eq!(seen["last_error"]["code"], "no_answer");
    assert!(seen["last_error"]["hint"].as_str().unwrap().starts_with("2 of"), "{seen:#}");
    report.statuses(vec![status(publish, 1, [2, 0, 0])]).await;
    let seen = shows(&plane.admin, &path, |it| it["status"] == "active").await;
    assert_eq!(seen["last_error"], Value::Null);
}

fn condition(kind: &str, reason: &str, since_ms: i64) -> pb::PublishCondition {
    let (r#type, reason) = (kind.to_owned(), reason.to_owned());
    pb::PublishCondition { r#type, reason, since_ms, ..pb::PublishCondition::default() }
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conditions_are_on_the_publish_and_each_is_an_event(#[case] kind: Kind) {
    let (_database, plane, shop) = on(kind).await;
    let (path, publish) = (shop.path("product-publishes"), shop.id("product-publishes"));
    let agent = Agent::start(&plane, shop.id("clusters")).await;
    let report = agent.report().await;
    report.beat(&["envoy-1"]).await;
    let said = |conditions| pb::PublishStatus { conditions, ..status(publish, 1, [1, 0, 0]) };
    let drift = |at: i64, corrected_at_ms| pb::PublishCondition {
        object: "HTTPRoute edge/r".to_owned(),
        field: "/spec/hostnames".to_owned(),
        by: "kubectl".to_owned(),
        corrected_at_ms,
        ..condition("drifted", "corrected", at)
    };
    let fallen = condition("delivery", "no_envoy", 1_700_000_000_000);
    report.statuses(vec![said(vec![fallen.clone(), drift(1_700_000_001_000, 0)])]).await;
    let seen = shows(&plane.admin, &path, |it| it["conditions"][1]["type"] == "drifted").await;
    let [delivery, drifted] = [&seen["conditions"][0], &seen["conditions"][1]];
    assert_eq!((&delivery["reason"], delivery.get("object")), (&json!("no_envoy"), None));
    assert_eq!(delivery["since"], "2023-11-14T22:13:20Z");
    assert_eq!((&drifted["by"], drifted.get("corrected_at")), (&json!("kubectl"), None));
    assert_eq!(seen["version"], 1, "a report is no edit");

    // It is put right, which the first event announced; it drifts again; delivery is as it was.
    let right = drift(1_700_000_001_000, 1_700_000_001_500);
    report.statuses(vec![said(vec![fallen, right])]).await;
    let is_right = |it: &Value| it["conditions"][1]["corrected_at"].is_string();
    shows(&plane.admin, &path, is_right).await;
    let again = drift(1_700_000_009_000, 1_700_000_009_500);
    report.statuses(vec![said(vec![again])]).await;
    shows(&plane.admin, &path, |it| it["conditions"][0]["type"] == "drifted").await;
    let rows = crate::audit::rows(&plane, &shop.objects["product-publishes"]).await;
    let told = rows.iter().filter(|row| row.operation == imp_store::audit::CONDITION);
    let told: Vec<&str> = told.map(|row| row.detail.as_str()).collect();
    let drifted = "drifted: HTTPRoute edge/r /spec/hostnames by kubectl";
    assert_eq!(told, ["delivery: no_envoy", drifted, drifted, "delivery: over"]);

    // A caller's edit keeps what agents say; nobody else can say it.
    let edit = plane.admin.patch(&path, json!({ "conditions": [1] })).await;
    assert_eq!(edit.status, 422);
    report.statuses(vec![status(publish, 1, [1, 0, 0])]).await;
    shows(&plane.admin, &path, |it| it["conditions"] == json!([])).await;
}
