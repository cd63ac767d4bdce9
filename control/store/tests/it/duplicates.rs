//! Upgrading a database of the first release that has duplicates.

use chrono::Utc;
use imp_core::SubscriptionId;
use imp_core::subscription::Subscription;
use imp_core::subscription::SubscriptionStatus;
use imp_store::Record as _;
use imp_store::StoreError;
use imp_store::Writable as _;
use imp_store::testing::{Database, Kind};
use rstest::rstest;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection};

use crate::shop::{Shop, all, write};

/// Reverts the migration's index and marks, so that duplicates can be stored as in the first
/// release, and its record.
const BACK: &str = "DROP INDEX uq_subscriptions__product_id;
    DELETE FROM _sqlx_migrations WHERE version = 7;
    DROP TABLE probes;
    DROP INDEX ix_subscriptions__plan_changes_at;
    DROP INDEX ix_subscriptions__next_plan_id;";

const AGAIN: &str = "ALTER TABLE subscriptions DROP COLUMN activated_at;
    ALTER TABLE subscriptions DROP COLUMN next_plan_id;
    ALTER TABLE subscriptions DROP COLUMN next_plan_version;
    ALTER TABLE subscriptions DROP COLUMN plan_changes_at;
    ALTER TABLE subscriptions DROP COLUMN duplicate;";

async fn run(database: &Database, kind: Kind, sql: &'static str) {
    match kind {
        Kind::Sqlite => {
            let mut one = SqliteConnection::connect(database.url()).await.unwrap();
            one.execute(AssertSqlSafe(sql)).await.unwrap();
        }
        Kind::Postgres => {
            let mut one = PgConnection::connect(database.url()).await.unwrap();
            one.execute(AssertSqlSafe(sql)).await.unwrap();
        }
    }
}

#[rstest]
#[tokio::test]
async fn duplicates_of_the_first_release_live_on_and_none_comes_beside_them(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let database = Database::fresh(kind).await.unwrap();
    let store = database.open().await.unwrap();
    let shop = Shop::open(&store, "acme").await;
    run(&database, kind, BACK).await;
    let mut second = shop.subscription.clone();
    second.id = SubscriptionId::new();
    second.status = SubscriptionStatus::Suspended;
    write(&store, async |tx| second.insert(tx).await).await.unwrap();
    store.close().await;
    run(&database, kind, AGAIN).await;

    let store = database.open().await.unwrap();
    for it in [&shop.subscription, &second] {
        let found = Subscription::get(&store, &all(), it.id).await.unwrap().unwrap();
        assert_eq!(found.status, it.status);
        assert_eq!(found.activated_at, Some(it.meta.created_at), "it was in force");
    }
    let mut third = shop.subscription.clone();
    third.id = SubscriptionId::new();
    let refused = write(&store, async |tx| third.insert(tx).await).await;
    assert!(matches!(refused, Err(StoreError::Taken { field: "product_id" })), "{refused:?}");
    // Each can still change its state, and end.
    for (mut it, status) in [
        (second, SubscriptionStatus::Active),
        (shop.subscription.clone(), SubscriptionStatus::Cancelled),
    ] {
        it.status = status;
        it.meta.touch(Utc::now());
        write(&store, async |tx| it.update(tx, 1).await).await.unwrap();
    }
}
