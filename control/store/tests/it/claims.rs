//! One publish per gateway of a cluster, hostname and base path; one tenant per hostname in all
//! clusters.

use std::time::Duration;

use chrono::{TimeDelta, Utc};
use imp_core::product_publish::ProductPublish;
use imp_store::Writable as _;
use imp_store::product_publish::{self as table, Claim, ClaimTime};
use imp_store::testing::{Kind, execute};
use imp_store::{Result, Store, StoreError, Tx};
use rstest::rstest;
use tokio::time::timeout;

use crate::shop::{Shop, claims, day, store, write};

/// Stores a publish and its claims without checking existing ones.
async fn blindly(tx: &mut Tx, publish: &ProductPublish) -> Result<()> {
    publish.insert(tx).await?;
    table::replace_claims(tx, publish, &claims(publish), day()).await
}

async fn on(store: &Store, publish: &ProductPublish) -> Vec<Claim> {
    let (cluster, hostnames) = (publish.spec.cluster_id, &publish.spec.hostnames);
    write(store, async |tx| table::claims_on(tx, cluster, hostnames).await).await.unwrap()
}

#[track_caller]
fn taken(done: Result<()>) {
    assert!(matches!(done, Err(StoreError::Taken { field: "hostnames" })), "{done:?}");
}

#[rstest]
#[tokio::test]
async fn the_same_place_is_claimed_once(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let host = &shop.publish.spec.hostnames[0];
    let same = shop.another_publish(host, "/");
    taken(write(&store, async |tx| blindly(tx, &same).await).await);
    let beside = shop.another_publish(host, "/v2");
    write(&store, async |tx| blindly(tx, &beside).await).await.unwrap();
    let expected = [claims(&shop.publish), claims(&beside)].concat();
    assert_eq!(on(&store, &shop.publish).await, expected);
    let mut outer = crate::shop::gateway(shop.tenant.id);
    outer.spec.name = "outer".to_owned();
    write(&store, async |tx| outer.insert(tx).await).await.unwrap();
    let (mut both, mut again) = (shop.another_publish(host, "/"), shop.another_publish(host, "/"));
    (both.spec.gateway_id, again.spec.gateway_id) = (outer.id, outer.id);
    write(&store, async |tx| blindly(tx, &both).await).await.unwrap();
    taken(write(&store, async |tx| blindly(tx, &again).await).await);
    let cluster = shop.cluster.id;
    let beside = async |gateway| {
        write(&store, async |tx| table::beside_gateway(tx, gateway, cluster).await).await.unwrap()
    };
    assert_eq!(beside(outer.id).await, expected);
    assert_eq!(beside(shop.gateway.id).await, claims(&both));
    let mut elsewhere = Shop::new("acme").cluster;
    elsewhere.spec.name = "elsewhere".to_owned();
    let mut there = shop.another_publish(host, "/");
    there.spec.cluster_id = elsewhere.id;
    let add = async |tx: &mut _| {
        elsewhere.insert(tx).await?;
        blindly(tx, &there).await
    };
    write(&store, add).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn a_host_belongs_to_one_tenant_whatever_the_path(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let acme = Shop::open(&store, "acme").await;
    let other = Shop::open(&store, "other").await;
    let mut intruder = other.another_publish(&acme.publish.spec.hostnames[0], "/elsewhere");
    intruder.spec.cluster_id = acme.cluster.id;
    taken(write(&store, async |tx| blindly(tx, &intruder).await).await);
    assert_eq!(on(&store, &intruder).await, claims(&acme.publish), "asked, it sees who is there");

    // Another cluster has another resource set.
    intruder.spec.cluster_id = other.cluster.id;
    taken(write(&store, async |tx| blindly(tx, &intruder).await).await);
}

#[rstest]
#[tokio::test]
async fn a_host_that_was_given_up_waits_for_its_former_tenant(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let acme = Shop::open(&store, "acme").await;
    let other = Shop::open(&store, "other").await;
    let next = other.another_publish(&acme.publish.spec.hostnames[0], "/");
    let now = Utc::now();
    let at = |hours: i64| ClaimTime {
        now: now + TimeDelta::hours(hours),
        cooldown: TimeDelta::hours(24),
    };
    let replace = async |publish: &ProductPublish, new: Vec<Claim>, hours: i64| {
        write(&store, async |tx| table::replace_claims(tx, publish, &new, at(hours)).await).await
    };
    let held = async |hours: i64| {
        let (tenant, hosts, at) = (other.tenant.id, &next.spec.hostnames, at(hours));
        let ask = async |tx: &mut Tx| table::held_by_another(tx, tenant, hosts, at.now).await;
        write(&store, ask).await.unwrap().is_some()
    };
    let forget = async |hours: i64| {
        write(&store, async |tx| table::forget_free_hostnames(tx, at(hours).now).await)
            .await
            .unwrap()
    };
    write(&store, async |tx| next.insert(tx).await).await.unwrap();
    replace(&acme.publish, vec![], 0).await.unwrap();
    assert!(held(23).await);
    taken(replace(&next, claims(&next), 23).await);
    // The former tenant returns, and leaves again.
    replace(&acme.publish, claims(&acme.publish), 23).await.unwrap();
    assert!(held(48).await, "what is claimed never gets free by waiting");
    replace(&acme.publish, vec![], 30).await.unwrap();
    assert_eq!(forget(53).await, 0);
    taken(replace(&next, claims(&next), 53).await);
    assert!(!held(54).await);
    replace(&next, claims(&next), 54).await.unwrap();
    taken(replace(&acme.publish, claims(&acme.publish), 100).await);
    // Nothing needs to be kept about a free host.
    replace(&next, vec![], 100).await.unwrap();
    assert_eq!(forget(124).await, 1);
    replace(&acme.publish, claims(&acme.publish), 124).await.unwrap();
}

/// A host in two clusters is free only when both have released it.
#[rstest]
#[tokio::test]
async fn a_host_stays_with_its_tenant_while_any_cluster_serves_it(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let acme = Shop::open(&store, "acme").await;
    let other = Shop::open(&store, "other").await;
    let mut second = acme.another_publish(&acme.publish.spec.hostnames[0], "/");
    second.spec.cluster_id = other.cluster.id;
    write(&store, async |tx| blindly(tx, &second).await).await.unwrap();
    let no_wait = ClaimTime { now: Utc::now(), cooldown: TimeDelta::zero() };
    let next = other.another_publish(&acme.publish.spec.hostnames[0], "/");
    let give_up = async |publish: &ProductPublish| {
        write(&store, async |tx| table::replace_claims(tx, publish, &[], no_wait).await).await
    };
    give_up(&acme.publish).await.unwrap();
    taken(write(&store, async |tx| blindly(tx, &next).await).await);
    give_up(&second).await.unwrap();
    write(&store, async |tx| blindly(tx, &next).await).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn claims_are_replaced_as_a_whole(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let mut shop = Shop::open(&store, "acme").await;
    let gateway = shop.gateway.id;
    let hosts = async || {
        write(&store, async |tx| table::hostnames_of_gateway(tx, gateway).await).await.unwrap()
    };
    assert_eq!(hosts().await, ["acme.example.com"]);
    shop.publish.spec.hostnames = vec!["b.example.com".to_owned(), "a.example.com".to_owned()];
    for base_path in ["/", "/v1"] {
        shop.publish.spec.base_path = base_path.to_owned();
        let new = claims(&shop.publish);
        write(&store, async |tx| table::replace_claims(tx, &shop.publish, &new, day()).await)
            .await
            .unwrap();
        assert_eq!(hosts().await, ["a.example.com", "b.example.com"]);
        let mut there = on(&store, &shop.publish).await;
        there.reverse();
        assert_eq!(there, new);
    }
}

/// The former release beside this one leaves out the gateway, or leaves the one where the publish was.
#[rstest]
#[tokio::test]
async fn what_the_former_release_left_of_a_gateway_is_rewritten(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
    #[values(
        "UPDATE product_publish_claims SET gateway_id = NULL",
        "UPDATE product_publish_claims SET gateway_id = \
         (SELECT id FROM gateways WHERE name = 'outer')"
    )]
    left: &'static str,
) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let mut outer = crate::shop::gateway(shop.tenant.id);
    outer.spec.name = "outer".to_owned();
    write(&store, async |tx| outer.insert(tx).await).await.unwrap();
    execute(&store, left).await.unwrap();
    let new = claims(&shop.publish);
    let replace = async |tx: &mut Tx| table::replace_claims(tx, &shop.publish, &new, day()).await;
    write(&store, replace).await.unwrap();
    let same = shop.another_publish(&shop.publish.spec.hostnames[0], "/");
    taken(write(&store, async |tx| blindly(tx, &same).await).await);
}

/// Between asking and claiming nobody else gets in, whatever the base path.
#[rstest]
#[tokio::test]
async fn who_asks_second_sees_what_the_first_claimed(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let first = shop.another_publish("new.example.com", "/a");
    let second = shop.another_publish("new.example.com", "/a/b");
    let (cluster, hosts) = (shop.cluster.id, first.spec.hostnames.clone());
    let mut tx = store.begin().await.unwrap();
    assert_eq!(table::claims_on(&mut tx, cluster, &hosts).await.unwrap(), []);
    let asking = tokio::spawn({
        let (store, second) = (store.clone(), second.clone());
        async move { on(&store, &second).await }
    });
    blindly(&mut tx, &first).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!asking.is_finished());
    tx.commit().await.unwrap();
    let seen = timeout(Duration::from_secs(10), asking).await.unwrap().unwrap();
    assert_eq!(seen, claims(&first));
}
