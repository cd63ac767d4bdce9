//! The tailer's reads: pages, a few ids, and corrupt rows.

use std::collections::BTreeSet;

use imp_core::CredentialId;
use imp_store::Record as _;
use imp_store::Writable as _;
use imp_store::compile::{
    Which, clusters, credentials, publishes, ranges, standings, subscriptions,
};
use imp_store::testing::{Database, Kind};
use imp_store::{Page, StoreError, credential, product_publish};
use rstest::rstest;

use crate::shop::{self, Shop, hash, store, write};

async fn spoil(database: &Database, kind: Kind, sql: &'static str) {
    match kind {
        Kind::Sqlite => {
            let pool = sqlx::SqlitePool::connect(database.url()).await.unwrap();
            sqlx::query(sql).execute(&pool).await.unwrap();
        }
        Kind::Postgres => {
            let pool = sqlx::PgPool::connect(database.url()).await.unwrap();
            sqlx::query(sql).execute(&pool).await.unwrap();
        }
    }
}

#[rstest]
#[case::empty(0, 1)]
#[case::one_range(2, 1)]
#[case::ends_with_a_row(6, 3)]
#[case::several(7, 3)]
#[tokio::test]
async fn ranges_hold_every_row_once_and_also_those_that_come_later(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
    #[case] rows: usize,
    #[case] expected: usize,
) {
    let (_database, store) = store(kind).await;
    let add = async |count: usize, what: &str| {
        write(&store, async |tx| {
            for number in 0..count {
                shop::cluster(&format!("{what}-{number}")).insert(tx).await?;
            }
            Ok(())
        })
        .await
        .unwrap();
    };
    add(rows, "former").await;
    let ranges = ranges(&store, "clusters", 3).await.unwrap();
    assert_eq!(ranges.len(), expected);
    add(3, "later").await;
    let (mut seen, mut sizes) = (Vec::new(), Vec::new());
    for range in ranges {
        let read = clusters(&store, Which::Range(range)).await.unwrap();
        sizes.push(read.len());
        seen.extend(read.iter().map(|row| row.id));
    }
    assert_eq!((seen.len(), sizes[0]), (rows + 3, if expected == 1 { rows + 3 } else { 3 }));
    assert!(seen.is_sorted(), "in order, none twice");
    seen.dedup();
    assert_eq!(seen.len(), rows + 3);
}

#[rstest]
#[tokio::test]
async fn pages_hold_every_row_once_and_lists_of_ids_only_what_is_there(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let more: Vec<_> = (0..6).map(|_| shop::credential(&shop.consumer)).collect();
    write(&store, async |tx| {
        for it in &more {
            credential::insert(tx, it, &hash(&it.id.to_string())).await?;
        }
        Ok(())
    })
    .await
    .unwrap();
    let all: BTreeSet<CredentialId> =
        more.iter().map(|it| it.id).chain([shop.credential.id]).collect();
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let rows = credentials(&store, Which::Page(Page { after, limit: 3 })).await.unwrap();
        let Some(last) = rows.last() else { break };
        after = Some(last.id.0);
        seen.extend(rows.iter().map(|row| row.id));
    }
    assert_eq!(seen.len(), 7);
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), all);

    let asked = [more[0].id, CredentialId::new(), more[1].id];
    let rows = credentials(&store, Which::Ids(&asked)).await.unwrap();
    let found: BTreeSet<_> = rows.iter().map(|row| row.id).collect();
    assert_eq!(found, BTreeSet::from([more[0].id, more[1].id]));
    let issued = rows[0].content.as_ref().unwrap();
    assert_eq!(issued.subscription_id, shop.subscription.id);
    assert_eq!(issued.client_app_id, shop.app.id);
    assert!(issued.key_hash == hash(&rows[0].id.to_string()));
    assert!(credentials(&store, Which::Ids(&[])).await.unwrap().is_empty());
}

#[rstest]
#[tokio::test]
async fn a_publish_comes_at_its_desired_revision_and_a_subscription_with_the_terms_it_bought(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let mut shop = Shop::open(&store, "acme").await;
    let ids = [shop.publish.id];
    let publish = publishes(&store, Which::Ids(&ids)).await.unwrap().remove(0).content.unwrap();
    assert_eq!((publish.revision, &publish.spec), (1, &shop.publish.spec));
    assert_eq!(publish.api_services[0].spec, shop.service.spec);
    let whole = standings(&store, Which::Ids(&ids)).await.unwrap().remove(0).content.unwrap();
    assert_eq!(whole, shop.publish);

    shop.publish.spec.hostnames = vec!["new.example.com".to_owned()];
    shop.publish.desired_revision = 2;
    shop.publish.meta.version = 2;
    write(&store, async |tx| {
        shop.publish.update(tx, 1).await?;
        product_publish::insert_revision(tx, &shop.revision(2)).await
    })
    .await
    .unwrap();
    let publish = publishes(&store, Which::Ids(&ids)).await.unwrap().remove(0).content.unwrap();
    assert_eq!((publish.revision, &publish.spec), (2, &shop.publish.spec));

    let ids = [shop.subscription.id];
    let bought = subscriptions(&store, Which::Ids(&ids)).await.unwrap().remove(0).content.unwrap();
    assert_eq!(bought.subscription, shop.subscription);
    assert_eq!(bought.terms.unwrap(), shop.plan.spec);
}

#[rstest]
#[tokio::test]
async fn a_broken_row_says_so_and_its_neighbours_are_read(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (database, store) = store(kind).await;
    let acme = Shop::open(&store, "acme").await;
    let page = || Which::Page(Page::all());
    spoil(&database, kind, "UPDATE product_publish_revisions SET api_services = '[{}]'").await;
    spoil(&database, kind, "UPDATE subscriptions SET status = 'sleepy'").await;
    let globex = Shop::open(&store, "globex").await;
    let rows = publishes(&store, Which::Page(Page::all())).await.unwrap();
    let state = |id| rows.iter().find(|row| row.id == id).map(|row| row.content.is_ok());
    assert_eq!((state(acme.publish.id), state(globex.publish.id)), (Some(false), Some(true)));
    let broken = rows.into_iter().find(|row| row.id == acme.publish.id).unwrap();
    assert!(matches!(broken.content, Err(StoreError::Corrupt { .. })));
    let rows = subscriptions(&store, page()).await.unwrap();
    let good: Vec<_> = rows.iter().filter(|row| row.content.is_ok()).map(|row| row.id).collect();
    assert_eq!(good, [globex.subscription.id]);
    assert_eq!(rows.len(), 2);
}
