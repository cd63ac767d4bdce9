//! Conditions of gateways: visible while the refusal lasts, in that cluster only.

use chrono::{DateTime, TimeDelta, Utc};
use imp_core::gateway::GatewayCondition;
use imp_core::product_publish::PublishError;
use imp_core::{ClusterId, GatewayId};
use imp_store::testing::Kind;
use imp_store::{Record as _, Store, Writable as _, gateway_condition as table};
use rstest::rstest;

use crate::shop::{Shop, all, day, gateway, store, write};

fn error(words: &str) -> PublishError {
    PublishError {
        code: "envoy_nack".to_owned(),
        resource: "port-8080".to_owned(),
        envoy_message: words.to_owned(),
        hint: "free the port".to_owned(),
    }
}

async fn refuse(store: &Store, at: (GatewayId, ClusterId), words: &str, now: DateTime<Utc>) {
    let error = error(words);
    write(store, async |tx| table::refuse(tx, at.0, at.1, &error, now).await).await.unwrap();
}

async fn told(store: &Store, gateway: GatewayId) -> Vec<(GatewayId, GatewayCondition)> {
    table::of_gateways(store, &[gateway]).await.unwrap()
}

#[rstest]
#[tokio::test]
async fn it_is_told_of_gateways_with_publishes_there_and_since_it_began(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let (acme, other) = (Shop::open(&store, "acme").await, Shop::open(&store, "other").await);
    let at = (acme.gateway.id, acme.cluster.id);
    let now = day().now;
    // Reports on gateways without a publish in the cluster are ignored.
    refuse(&store, (other.gateway.id, acme.cluster.id), "x", now).await;
    refuse(&store, (GatewayId::new(), acme.cluster.id), "x", now).await;
    assert_eq!(table::in_cluster(&store, acme.cluster.id).await.unwrap(), []);
    refuse(&store, at, "one", now).await;
    let first = told(&store, at.0).await;
    refuse(&store, at, "two\0", now + TimeDelta::hours(1)).await;
    let second = told(&store, at.0).await;
    assert_eq!(table::in_cluster(&store, at.1).await.unwrap(), second);
    let [(_, first)] = &first[..] else { panic!("{first:?}") };
    let [(id, second)] = &second[..] else { panic!("{second:?}") };
    assert_eq!((*id, second.cluster_id, second.since), (at.0, at.1, first.since));
    assert_eq!(second.last_error, error("two\u{fffd}"));
    write(&store, async |tx| table::accept(tx, at.0, at.1).await).await.unwrap();
    assert_eq!(told(&store, at.0).await, []);
}

#[rstest]
#[tokio::test]
async fn it_goes_with_the_gateway(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let mut idle = gateway(shop.tenant.id);
    idle.spec.name = "idle".to_owned();
    let mut publish = shop.another_publish("idle.example.com", "/");
    publish.spec.gateway_id = idle.id;
    let add = async |tx: &mut _| {
        idle.insert(tx).await?;
        publish.insert(tx).await
    };
    write(&store, add).await.unwrap();
    refuse(&store, (idle.id, shop.cluster.id), "x", day().now).await;
    assert_eq!(told(&store, idle.id).await.len(), 1);
    let remove = async |tx: &mut _| {
        imp_core::product_publish::ProductPublish::delete(tx, &all(), publish.id).await?;
        imp_core::gateway::Gateway::delete(tx, &all(), idle.id).await
    };
    assert!(write(&store, remove).await.unwrap());
    assert_eq!(told(&store, idle.id).await, []);
}
