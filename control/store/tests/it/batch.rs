//! Statements that wait for the next one: they keep their order, their errors and the transaction.

use imp_core::ProductPublishId;
use imp_store::audit::{self, Actor, Entry};
use imp_store::outbox::{self, Subject};
use imp_store::testing::Kind;
use imp_store::{StoreError, Writable as _, product_publish as table};
use rstest::rstest;
use uuid::Uuid;

use crate::shop::{Shop, claims, day, store};

fn entry(object: Uuid, detail: &str) -> Entry {
    Entry {
        at: day().now,
        actor: Actor::Platform,
        tenant_id: None,
        operation: "tests.note".to_owned(),
        object_id: object,
        detail: detail.to_owned(),
        request_id: String::new(),
    }
}

#[rstest]
#[tokio::test]
async fn all_are_there_in_order_once_it_is_committed(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let object = Uuid::now_v7();
    let mut tx = store.begin().await.unwrap();
    let details: Vec<String> = (0..40).map(|number| format!("'$1' {number}")).collect();
    for detail in &details {
        audit::append(&mut tx, &entry(object, detail)).await.unwrap();
    }
    tx.commit().await.unwrap();
    let there = audit::of_object(&store, object).await.unwrap();
    assert_eq!(there.into_iter().map(|it| it.detail).collect::<Vec<_>>(), details);
}

#[rstest]
#[tokio::test]
async fn what_is_read_later_is_read_in_its_place(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let (cluster, claimed) = (shop.cluster.id, shop.another_publish("later.example.com", "/"));
    let hosts = claimed.spec.hostnames.clone();
    let mut tx = store.begin().await.unwrap();
    let before = table::claims_on_soon(&mut tx, cluster, &hosts).await.unwrap();
    claimed.insert(&mut tx).await.unwrap();
    table::replace_claims(&mut tx, &claimed, &claims(&claimed), day()).await.unwrap();
    let after = table::claims_on_soon(&mut tx, cluster, &hosts).await.unwrap();
    assert_eq!(tx.all(after).await.unwrap().concat().len(), 1);
    assert_eq!(tx.all(before).await.unwrap().concat(), []);
    tx.rollback().await.unwrap();
}

#[rstest]
#[tokio::test]
async fn one_that_fails_says_why_and_nothing_is_committed(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let (object, again) = (Uuid::now_v7(), shop.revision(1));
    let mut tx = store.begin().await.unwrap();
    audit::append(&mut tx, &entry(object, "before")).await.unwrap();
    let fails = async {
        table::insert_revision(&mut tx, &again).await?;
        audit::append(&mut tx, &entry(object, "behind")).await?;
        table::get_revision_in(&mut tx, shop.publish.id, 1).await
    };
    let failed = fails.await;
    assert!(matches!(failed, Err(StoreError::Taken { field: "revision" })), "{failed:?}");
    if kind == Kind::Sqlite {
        let next = table::get_revision_in(&mut tx, shop.publish.id, 1).await;
        assert!(matches!(next, Err(StoreError::Driver(_))), "{next:?}");
    }
    assert!(tx.commit().await.is_err() || kind == Kind::Postgres);
    assert_eq!(audit::of_object(&store, object).await.unwrap(), []);
    // The next transaction is a new one.
    let mut tx = store.begin().await.unwrap();
    audit::append(&mut tx, &entry(object, "next")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(audit::of_object(&store, object).await.unwrap().len(), 1);
}

#[rstest]
#[tokio::test]
async fn one_that_fails_in_the_commit_commits_nothing(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let (object, again) = (Uuid::now_v7(), shop.revision(1));
    let mut tx = store.begin().await.unwrap();
    let done = async {
        audit::append(&mut tx, &entry(object, "before")).await?;
        table::insert_revision(&mut tx, &again).await?;
        tx.commit().await
    };
    let done = done.await;
    assert!(matches!(done, Err(StoreError::Taken { field: "revision" })), "{done:?}");
    assert_eq!(audit::of_object(&store, object).await.unwrap(), []);
    let mut tx = store.begin().await.unwrap();
    audit::append(&mut tx, &entry(object, "next")).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(audit::of_object(&store, object).await.unwrap().len(), 1);
}

#[tokio::test]
async fn those_of_a_transaction_that_is_dropped_are_gone() {
    let (_database, store) = store(Kind::Sqlite).await;
    let head = outbox::head(&store).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    outbox::append(&mut tx, Subject::ProductPublish(ProductPublishId::new())).await.unwrap();
    drop(tx);
    let tx = store.begin().await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(outbox::head(&store).await.unwrap(), head);
}

#[rstest]
#[tokio::test]
async fn a_transaction_without_a_statement_changes_nothing_however_it_ends(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let object = Uuid::now_v7();
    for _ in 0..2 {
        drop(store.begin().await.unwrap());
        store.begin().await.unwrap().rollback().await.unwrap();
        store.begin().await.unwrap().commit().await.unwrap();
        let mut waited = store.begin().await.unwrap();
        audit::append(&mut waited, &entry(object, "rolled back")).await.unwrap();
        waited.rollback().await.unwrap();
        let mut tx = store.begin().await.unwrap();
        audit::append(&mut tx, &entry(object, "there")).await.unwrap();
        tx.commit().await.unwrap();
    }
    let there = audit::of_object(&store, object).await.unwrap();
    assert_eq!(there.into_iter().map(|it| it.detail).collect::<Vec<_>>(), ["there", "there"]);
}

#[rstest]
#[tokio::test]
async fn an_update_that_waits_says_that_its_row_is_another(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let version = shop.publish.meta.version;
    let mut next = shop.publish.clone();
    next.meta.version += 1;
    let mut tx = store.begin().await.unwrap();
    next.update_later(&mut tx, version).await.unwrap();
    tx.commit().await.unwrap();
    let mut tx = store.begin().await.unwrap();
    let late = async {
        next.update_later(&mut tx, version).await?;
        tx.commit().await
    };
    let late = late.await;
    assert!(matches!(late, Err(StoreError::VersionMismatch { .. })), "{late:?}");
}
