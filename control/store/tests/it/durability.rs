//! Nothing is confirmed before the disk has it, and many commits share one sync.

use std::time::Duration;

use imp_core::cluster::Cluster;
use imp_store::testing::{Kind, fail_syncs, syncs, while_nothing_is_durable};
use imp_store::{Record as _, Store, StoreError, Writable as _, history};
use tokio::time::{sleep, timeout};

use crate::shop::{self, store, write};

const MOMENT: Duration = Duration::from_millis(100);

async fn add(store: &Store, name: &str) -> imp_store::Result<()> {
    write(store, async |tx| shop::cluster(name).insert(tx).await).await
}

async fn clusters(store: &Store) -> usize {
    let page = imp_store::Page::all();
    Cluster::list(store, &shop::all(), &Default::default(), page).await.unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_wait_for_one_sync_together_and_the_next_writer_waits_for_none() {
    let (_database, store) = store(Kind::Sqlite).await;
    add(&store, "first").await.unwrap();
    let before = syncs(&store);
    let mut writers = Vec::new();
    while_nothing_is_durable(&store, async {
        for number in 0..8 {
            let store = store.clone();
            let name = format!("c-{number}");
            writers.push(tokio::spawn(async move { add(&store, &name).await }));
        }
        while clusters(&store).await < 9 {
            sleep(Duration::from_millis(5)).await;
        }
        sleep(MOMENT).await;
        assert!(writers.iter().all(|writer| !writer.is_finished()), "none is confirmed");
        assert!(timeout(MOMENT, store.settled()).await.is_err(), "none may be told of");
        assert!(timeout(MOMENT, history::now(&store)).await.is_err(), "no agent remembers it");
    })
    .await;
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    store.settled().await.unwrap();
    assert_eq!(syncs(&store) - before, 1);
}

#[tokio::test]
async fn what_needs_not_last_waits_for_no_sync() {
    let (_database, store) = store(Kind::Sqlite).await;
    add(&store, "first").await.unwrap();
    let before = syncs(&store);
    while_nothing_is_durable(&store, async {
        let mut tx = store.begin_unsynced().await.unwrap();
        shop::cluster("unsynced").insert(&mut tx).await.unwrap();
        tx.commit().await.unwrap();
        store.settled().await.unwrap();
    })
    .await;
    assert_eq!(syncs(&store), before);
}

#[tokio::test]
async fn a_sync_that_fails_confirms_nothing_and_holds_up_writers_until_the_disk_works() {
    let (_database, store) = store(Kind::Sqlite).await;
    add(&store, "first").await.unwrap();
    fail_syncs(&store, true);
    let done = add(&store, "in doubt").await;
    assert!(matches!(done, Err(StoreError::Unconfirmed(_))), "{done:?}");
    assert!(matches!(store.settled().await, Err(StoreError::Unconfirmed(_))), "nobody is told");
    let refused = add(&store, "refused").await;
    assert!(matches!(refused, Err(StoreError::StorageFull(_))), "{refused:?}");
    assert_eq!(clusters(&store).await, 2, "what was refused is not there");
    fail_syncs(&store, false);
    store.settled().await.unwrap();
    add(&store, "later").await.unwrap();
    assert_eq!(clusters(&store).await, 3);
}

/// The request of a caller who hangs up ends at any moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_dropped_holds_nobody_up() {
    let (_database, store) = store(Kind::Sqlite).await;
    for step in 0..100_u64 {
        let own = store.clone();
        let task = tokio::spawn(async move { add(&own, &format!("c-{step}")).await });
        sleep(Duration::from_micros(step * 30)).await;
        task.abort();
        let _ended = task.await;
        timeout(Duration::from_secs(5), store.settled()).await.unwrap().unwrap();
    }
    add(&store, "last").await.unwrap();
}

/// A writer copies the log itself only after many more.
#[tokio::test]
async fn the_log_is_copied_to_the_database_file_beside_the_commits() {
    let (database, store) = store(Kind::Sqlite).await;
    let path = database.url().trim_start_matches("sqlite:").trim_start_matches("//").to_owned();
    let written = || std::fs::metadata(&path).unwrap().modified().unwrap();
    let before = written();
    for number in 0..200 {
        add(&store, &format!("c-{number}")).await.unwrap();
    }
    let copied = async {
        while written() == before {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), copied).await.unwrap();
    assert_eq!(clusters(&store).await, 200);
}
