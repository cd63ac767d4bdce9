//! Revisions are written once; agents' reports are no edits.

use chrono::{TimeDelta, Utc};
use imp_core::product_publish::{
    NodeCounts, ProductPublish, PublishCondition, PublishError, PublishStatus,
};
use imp_store::Record as _;
use imp_store::product_publish as table;
use imp_store::testing::Kind;
use imp_store::{Store, StoreError};
use rstest::rstest;

use crate::shop::{Shop, all, store, write};

async fn look(store: &Store, publish: &ProductPublish) -> ProductPublish {
    ProductPublish::get(store, &all(), publish.id).await.unwrap().unwrap()
}

async fn report(store: &Store, before: &ProductPublish, after: &ProductPublish) -> bool {
    write(store, async |tx| table::report(tx, before, after).await).await.unwrap()
}

#[rstest]
#[tokio::test]
async fn revisions_stay_as_they_were(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let mut shop = Shop::open(&store, "acme").await;
    let first = shop.revision(1);
    shop.publish.spec.base_path = "/v2".to_owned();
    let second = shop.revision(2);
    write(&store, async |tx| table::insert_revision(tx, &second).await).await.unwrap();
    let again = write(&store, async |tx| table::insert_revision(tx, &second).await).await;
    assert!(matches!(again, Err(StoreError::Taken { field: "revision" })), "{again:?}");
    let id = shop.publish.id;
    assert_eq!(table::get_revision(&store, id, 1).await.unwrap().as_ref(), Some(&first));
    assert_eq!(table::get_revision(&store, id, 3).await.unwrap(), None);
    let listed = async |before, limit| -> Vec<(i64, String)> {
        let listed = table::list_revisions(&store, id, before, limit).await.unwrap();
        listed.into_iter().map(|it| (it.revision, it.spec.base_path)).collect()
    };
    let (new, old) = ((2, "/v2".to_owned()), (1, first.spec.base_path));
    assert_eq!(listed(i64::MAX, 9).await, [new.clone(), old.clone()]);
    assert_eq!(listed(i64::MAX, 1).await, [new]);
    assert_eq!(listed(2, 9).await, [old]);
}

#[rstest]
#[tokio::test]
async fn a_report_changes_what_agents_know_and_no_version(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let before = Shop::open(&store, "acme").await.publish;
    let mut after = before.clone();
    after.status = PublishStatus::Failed;
    after.acked_revision = 1;
    after.nodes = NodeCounts { acked: 2, nacked: 1, behind: 0 };
    after.activated_at = Some(before.meta.created_at + TimeDelta::seconds(1));
    after.last_error = Some(PublishError {
        code: "envoy_nack".to_owned(),
        resource: "scope".to_owned(),
        envoy_message: "a NUL \0 in it".to_owned(),
        hint: String::new(),
    });
    let drift = PublishCondition {
        kind: "drifted".to_owned(),
        reason: "corrected".to_owned(),
        message: String::new(),
        since: before.meta.created_at,
        object: Some("HTTPRoute edge/r".to_owned()),
        field: Some("/spec\0".to_owned()),
        by: None,
        corrected_at: Some(before.meta.created_at + TimeDelta::seconds(2)),
    };
    after.conditions = vec![drift];
    let mut said = after.clone();
    said.spec.base_path = "/not-a-report".to_owned();
    said.meta.touch(Utc::now());
    assert!(report(&store, &before, &said).await);
    after.last_error.as_mut().unwrap().envoy_message = "a NUL \u{fffd} in it".to_owned();
    after.conditions[0].field = Some("/spec\u{fffd}".to_owned());
    assert_eq!(look(&store, &before).await, after);

    // A caller's edit with the version from before the report succeeds.
    let mut edited = after.clone();
    edited.meta.touch(Utc::now());
    write(&store, async |tx| edited.update(tx, 1).await).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn a_report_about_what_has_moved_on_is_dropped(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let before = Shop::open(&store, "acme").await.publish;
    let mut after = before.clone();
    (after.status, after.acked_revision) = (PublishStatus::Active, 1);
    for change in [
        &|it: &mut ProductPublish| it.status = PublishStatus::Suspended,
        &|it: &mut ProductPublish| (it.status, it.desired_revision) = (PublishStatus::Pending, 2),
    ] as [&dyn Fn(&mut ProductPublish); 2]
    {
        let mut moved = look(&store, &before).await;
        let version = moved.meta.version;
        change(&mut moved);
        moved.meta.touch(Utc::now());
        write(&store, async |tx| moved.update(tx, version).await).await.unwrap();
        assert!(!report(&store, &before, &after).await);
        assert_eq!(look(&store, &before).await, moved);
    }
    let mut gone = before.clone();
    gone.id = imp_core::ProductPublishId::new();
    assert!(!report(&store, &gone, &after).await);
}

#[rstest]
#[tokio::test]
async fn a_row_got_for_update_is_held(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let publish = Shop::open(&store, "acme").await.publish;
    let mut tx = store.begin().await.unwrap();
    let mut held = table::get_for_update(&mut tx, publish.id).await.unwrap().unwrap();
    assert_eq!(held, publish);
    let second = tokio::spawn({
        let (store, id) = (store.clone(), publish.id);
        let get = async move |tx: &mut _| table::get_for_update(tx, id).await;
        async move { write(&store, get).await.unwrap().unwrap() }
    });
    held.status = PublishStatus::Active;
    assert!(table::report(&mut tx, &publish, &held).await.unwrap());
    tokio::task::yield_now().await;
    assert!(!second.is_finished());
    tx.commit().await.unwrap();
    assert_eq!(second.await.unwrap().status, PublishStatus::Active);
    let none = async |tx: &mut _| table::get_for_update(tx, Default::default()).await;
    assert_eq!(write(&store, none).await.unwrap(), None);
}
