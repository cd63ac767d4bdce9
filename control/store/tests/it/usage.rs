//! Counts are cumulative: whatever comes twice, late or out of order counts once.

use chrono::{DateTime, Utc};
use imp_core::consumer::Consumer;
use imp_core::credential::Credential;
use imp_core::subscription::Subscription;
use imp_core::{AgentId, ConsumerId, ProductPublishId, SubscriptionId};
use imp_store::Record as _;
use imp_store::Store;
use imp_store::testing::Kind;
use imp_store::usage::{self, Row, Total};
use rstest::rstest;

use crate::shop::{Shop, all, store, write};

fn hour(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// By a subscriber.
fn row(subscription: SubscriptionId, at: &str, allowed: u64, limited: u64) -> Row {
    Row {
        product_publish_id: ProductPublishId(subscription.0),
        subscription_id: Some(subscription),
        consumer_id: Some(ConsumerId(subscription.0)),
        hour: hour(at),
        allowed,
        limited,
    }
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
    // The agent started anew: it counts from zero.
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
async fn an_agent_s_nonsense_breaks_no_sum(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
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
