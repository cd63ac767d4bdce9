//! Counts are cumulative: repeated, late and reordered reports count once.

use chrono::{DateTime, Utc};
use imp_core::consumer::Consumer;
use imp_core::credential::Credential;
use imp_core::product_publish::Environment;
use imp_core::subscription::Subscription;
use imp_core::{
    AgentId, ConsumerId, CustomerId, PlanId, ProductId, ProductPublishId, SubscriptionId, TenantId,
};
use imp_store::Record as _;
use imp_store::Store;
use imp_store::testing::{Database, Kind};
use imp_store::usage::{self, Row, Terms, Total};
use rstest::rstest;
use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::shop::{Shop, all, store, write};

fn hour(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A row of a subscriber.
fn row(subscription: SubscriptionId, at: &str, allowed: u64, limited: u64) -> Row {
    Row {
        product_publish_id: ProductPublishId(subscription.0),
        subscription_id: Some(subscription),
        consumer_id: Some(ConsumerId(subscription.0)),
        hour: hour(at),
        allowed,
        limited,
        terms: Terms::default(),
        plan_key: String::new(),
    }
}

/// The same row under a version of a plan, as the agent names it.
fn under(plan: PlanId, version: i64, row: Row) -> Row {
    let terms = Terms {
        tenant_id: Some(TenantId(plan.0)),
        customer_id: Some(CustomerId(plan.0)),
        plan_id: Some(plan),
        plan_version: Some(version),
        product_id: Some(ProductId(plan.0)),
        environment: Some(Environment::Prod),
    };
    Row { terms, plan_key: format!("{plan}@{version}"), ..row }
}

async fn record(store: &Store, agent: AgentId, epoch: &str, rows: &[Row]) {
    write(store, async |tx| usage::record(tx, agent, epoch, rows).await).await.unwrap();
}

async fn totals(store: &Store, subscription: SubscriptionId) -> Vec<(DateTime<Utc>, u64, u64)> {
    let totals = usage::totals(store, subscription, 0, 100).await.unwrap();
    totals.iter().map(|total| (total.hour, total.allowed, total.limited)).collect()
}

#[rstest]
#[tokio::test]
async fn twice_and_late_counts_once(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let (agent, it) = (AgentId::new(), SubscriptionId::new());
    let nine = "2026-01-01T09:00:00Z";
    let older = [row(it, nine, 5, 0)];
    let newer = [row(it, nine, 7, 1)];
    for report in [&older, &newer, &newer, &older] {
        record(&store, agent, "one", report).await;
    }
    assert_eq!(totals(&store, it).await, [(hour(nine), 7, 1)]);
    // The agent restarted and counts from zero.
    record(&store, agent, "two", &[row(it, nine, 2, 0)]).await;
    record(&store, AgentId::new(), "one", &[row(it, nine, 100, 0)]).await;
    assert_eq!(totals(&store, it).await, [(hour(nine), 109, 1)]);
}

#[rstest]
#[tokio::test]
async fn by_hour_newest_first_and_of_one_subscription(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let (agent, it, other) = (AgentId::new(), SubscriptionId::new(), SubscriptionId::new());
    let (nine, ten) = ("2026-01-01T09:00:00Z", "2026-01-01T10:00:00Z");
    let public = Row { subscription_id: None, consumer_id: None, ..row(it, nine, 50, 0) };
    let within_the_hour = "2026-01-01T10:59:59.999Z";
    let rows = [row(it, nine, 1, 0), row(it, within_the_hour, 2, 3), row(other, ten, 9, 9), public];
    record(&store, agent, "one", &rows).await;
    record(&store, agent, "one", &rows).await;
    assert_eq!(totals(&store, it).await, [(hour(ten), 2, 3), (hour(nine), 1, 0)]);
    let second = usage::totals(&store, it, 1, 100).await.unwrap();
    assert_eq!((second.len(), second[0].hour), (1, hour(nine)), "a part of it");
    let first = usage::totals(&store, other, 0, 100).await.unwrap();
    let expected = Total {
        hour: hour(ten),
        product_publish_id: ProductPublishId(other.0),
        consumer_id: ConsumerId(other.0),
        terms: Terms::default(),
        allowed: 9,
        limited: 9,
    };
    assert_eq!(first, [expected]);
    assert_eq!(totals(&store, SubscriptionId::new()).await, []);
}

#[rstest]
#[tokio::test]
async fn what_was_used_outlives_the_subscription(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let it = shop.subscription.id;
    record(&store, AgentId::new(), "one", &[row(it, "2026-01-01T09:00:00Z", 1, 0)]).await;
    let end = async |tx: &mut _| {
        Credential::delete(tx, &all(), shop.credential.id).await?;
        Consumer::delete(tx, &all(), shop.consumer.id).await?;
        Subscription::delete(tx, &all(), it).await
    };
    assert!(write(&store, end).await.unwrap());
    assert_eq!(totals(&store, it).await.len(), 1);
}

#[rstest]
#[tokio::test]
async fn nonsense_from_an_agent_breaks_no_sum(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let it = SubscriptionId::new();
    for _ in 0..3 {
        let rows =
            [row(it, "2026-01-01T09:00:00Z", u64::MAX, 1), row(it, "9999-01-01T00:00:00Z", 1, 1)];
        record(&store, AgentId::new(), "a \0 epoch", &rows).await;
    }
    let totals = totals(&store, it).await;
    assert!(totals.iter().any(|(_, allowed, limited)| *allowed > 1 << 44 && *limited == 3));
}

#[rstest]
#[tokio::test]
async fn a_change_of_plan_inside_an_hour_makes_two_rows_that_each_count_once(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let (agent, it, plan) = (AgentId::new(), SubscriptionId::new(), PlanId::new());
    let at = "2026-01-01T09:00:00Z";
    let first = |allowed| under(plan, 1, row(it, at, allowed, 0));
    let second = |allowed| under(plan, 2, row(it, at, allowed, 1));
    record(&store, agent, "one", &[first(5)]).await;
    for report in [[first(7), second(2)], [second(3), first(7)], [first(6), second(1)]] {
        record(&store, agent, "one", &report).await;
    }
    let seen = usage::totals(&store, it, 0, 100).await.unwrap();
    let of = |version| seen.iter().find(|total| total.terms.plan_version == Some(version)).unwrap();
    assert_eq!(seen.len(), 2);
    assert_eq!((of(1).allowed, of(1).limited), (7, 0));
    assert_eq!((of(2).allowed, of(2).limited), (3, 1));
    assert_eq!(of(2).terms, second(0).terms, "all that a price is found by");
    let part = usage::totals(&store, it, 1, 100).await.unwrap();
    assert_eq!(part, seen[1..], "in the same order");
}

/// The statement of the control plane's former release.
const FORMER: &str = "INSERT INTO usage_counters (subscription_id, hour, product_publish_id, \
    consumer_id, agent_id, epoch, allowed, limited) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
    ON CONFLICT (subscription_id, hour, product_publish_id, consumer_id, agent_id, epoch) \
    DO UPDATE SET \
        allowed = CASE WHEN excluded.allowed > usage_counters.allowed \
            THEN excluded.allowed ELSE usage_counters.allowed END, \
        limited = CASE WHEN excluded.limited > usage_counters.limited \
            THEN excluded.limited ELSE usage_counters.limited END";

async fn record_as_before(database: &Database, kind: Kind, agent: AgentId, row: &Row) {
    let it = row.subscription_id.unwrap().0;
    macro_rules! write {
        ($connection:ty) => {{
            let mut one = <$connection>::connect(database.url()).await.unwrap();
            let query = sqlx::query(FORMER).bind(it).bind(row.hour).bind(it).bind(it);
            let query = query.bind(agent.0).bind("one").bind(row.allowed as i64).bind(0_i64);
            query.execute(&mut one).await.unwrap();
        }};
    }
    match kind {
        Kind::Sqlite => write!(SqliteConnection),
        Kind::Postgres => write!(PgConnection),
    }
}

#[rstest]
#[tokio::test]
async fn a_release_before_and_this_one_count_one_counter_once_in_whatever_order(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (database, store) = store(kind).await;
    let (agent, plan, at) = (AgentId::new(), PlanId::new(), "2026-01-01T09:00:00Z");
    let sums = async |it| {
        let seen = usage::totals(&store, it, 0, 100).await.unwrap();
        seen.iter().map(|total| (total.terms.plan_version, total.allowed)).collect::<Vec<_>>()
    };
    // The former release first: a new agent under a control plane that was not updated yet.
    let it = SubscriptionId::new();
    record_as_before(&database, kind, agent, &row(it, at, 50, 0)).await;
    record(&store, agent, "one", &[under(plan, 1, row(it, at, 60, 0))]).await;
    assert_eq!(sums(it).await, [(Some(1), 60)]);
    // And after it: the control plane was rolled back.
    record_as_before(&database, kind, agent, &row(it, at, 80, 0)).await;
    assert_eq!(sums(it).await, [(Some(1), 80)]);
    // An agent that was updated within the hour: the former counts are added.
    let it = SubscriptionId::new();
    record_as_before(&database, kind, agent, &row(it, at, 50, 0)).await;
    let filled = Row { plan_key: String::new(), ..under(plan, 1, row(it, at, 50, 0)) };
    let both = [under(plan, 1, row(it, at, 4, 0)), filled];
    record(&store, agent, "one", &both).await;
    record(&store, agent, "one", &both).await;
    assert_eq!(sums(it).await, [(Some(1), 54)]);
}
