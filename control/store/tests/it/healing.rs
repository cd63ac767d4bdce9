//! A transaction that fails halfway leaves nothing to the next writer.

use imp_core::cluster::Cluster;
use imp_store::Record as _;
use imp_store::Writable as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use imp_store::testing::{Database, Kind};
use imp_store::{Store, StoreError, outbox};
use rstest::rstest;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::time::{Instant, sleep};

use crate::shop::{self, store, write};

/// Makes the server close every connection of the store.
async fn cut(database: &Database) {
    let mut one = PgConnection::connect(database.url()).await.unwrap();
    let sql = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    one.execute(sql).await.unwrap();
}

async fn heals(store: &Store) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let name = format!("after-{}", uuid::Uuid::now_v7());
        match write(store, async |tx| shop::cluster(&name).insert(tx).await).await {
            Ok(()) => return,
            Err(StoreError::Unavailable(_)) if Instant::now() < deadline => {
                sleep(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_cuts_connections_in_mid_transaction_is_written_to_again() {
    let (database, store) = store(Kind::Postgres).await;
    for round in 0..3 {
        let lost = shop::cluster(&format!("lost-{round}"));
        let mut tx = store.begin().await.unwrap();
        lost.insert(&mut tx).await.unwrap();
        cut(&database).await;
        match round {
            0 => assert!(matches!(tx.commit().await, Err(StoreError::Unavailable(_)))),
            1 => assert!(matches!(tx.rollback().await, Err(StoreError::Unavailable(_)))),
            _ => drop(tx),
        }
        heals(&store).await;
        let scope = shop::all();
        assert!(Cluster::get(&store, &scope, lost.id).await.unwrap().is_none());
        store.probe(chrono::Utc::now()).await.unwrap();
    }
}

/// Requests can end at any moment: their futures are dropped between and inside statements.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_dropped_anywhere_leaves_nothing_behind(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let before = outbox::head(&store).await.unwrap();
    for step in 0..60_u64 {
        let store = store.clone();
        let task = tokio::spawn(async move {
            let mut tx = store.begin().await.unwrap();
            for number in 0..20 {
                let cluster = shop::cluster(&format!("c-{step}-{number}"));
                cluster.insert(&mut tx).await.unwrap();
            }
            // Never committed, whatever happens.
            std::future::pending::<()>().await;
        });
        sleep(Duration::from_micros(step * 150)).await;
        task.abort();
        let _ended = task.await;
    }
    heals(&store).await;
    assert_eq!(outbox::head(&store).await.unwrap(), before);
    let scope = shop::all();
    let page = imp_store::Page::all();
    let left = Cluster::list(&store, &scope, &Default::default(), page).await.unwrap();
    assert_eq!(left.len(), 1, "only what was committed at the end");
}

#[tokio::test]
async fn a_file_that_others_may_read_is_closed_to_them() {
    let (database, store) = store(Kind::Sqlite).await;
    store.close().await;
    let path = database.url().trim_start_matches("sqlite://");
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    let again = database.open().await.unwrap();
    assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    again.probe(chrono::Utc::now()).await.unwrap();
}

#[tokio::test]
async fn requests_do_not_use_up_the_connections_of_the_platform() {
    let (_database, store) = store(Kind::Postgres).await;
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(store.begin().await.unwrap());
    }
    let short = Duration::from_millis(100);
    assert!(tokio::time::timeout(short, store.begin()).await.is_err(), "requests have no more");
    let platform = store.for_platform();
    let written = write(&platform, async |tx| shop::cluster("a").insert(tx).await);
    tokio::time::timeout(Duration::from_secs(20), written).await.unwrap().unwrap();
}
