//! Referenced objects cannot be deleted, and the error names the others; parts are deleted with the
//! whole.

use imp_core::cluster::Agent;
use imp_core::cluster::RegistrationToken;
use imp_core::plan::Plan;
use imp_core::product_publish::ProductPublish;
use imp_core::subscription::SubscriptionStatus;
use imp_store::Writable as _;
use imp_store::testing::Kind;
use imp_store::{Page, Result, StoreError, api_service, product_publish, registration_token};
use imp_store::{Record, Store};
use rstest::rstest;

use crate::shop::{self, Shop, all, hash, store, write};

#[track_caller]
fn in_use(done: Result<bool>, by: &[&str]) {
    assert!(matches!(&done, Err(StoreError::InUse { by: it }) if by.contains(it)), "{done:?}");
}

async fn delete<R: Record>(store: &Store, it: &R) -> imp_store::Result<bool> {
    write(store, async |tx| R::delete(tx, &all(), it.id()).await).await
}

#[rstest]
#[tokio::test]
async fn in_use_by(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let mut shop = Shop::open(&store, "acme").await;
    let store = &store;
    shop.subscription.product_publish_id = Some(shop.publish.id);
    write(store, async |tx| shop.subscription.update(tx, 1).await).await.unwrap();
    write(store, async |tx| {
        product_publish::replace_claims(tx, &shop.publish, &[], shop::day()).await
    })
    .await
    .unwrap();
    in_use(
        delete(store, &shop.tenant).await,
        &["api-services", "gateways", "products", "customers"],
    );
    in_use(delete(store, &shop.cluster).await, &["product-publishes"]);
    in_use(delete(store, &shop.service).await, &["products"]);
    in_use(delete(store, &shop.gateway).await, &["product-publishes"]);
    in_use(delete(store, &shop.product).await, &["plans", "product-publishes", "subscriptions"]);
    in_use(delete(store, &shop.plan).await, &["subscriptions"]);
    in_use(delete(store, &shop.publish).await, &["subscriptions"]);
    in_use(delete(store, &shop.customer).await, &["client-apps", "subscriptions"]);
    in_use(delete(store, &shop.subscription).await, &["consumers"]);
    in_use(delete(store, &shop.app).await, &["consumers"]);
    in_use(delete(store, &shop.consumer).await, &["credentials"]);
    // From the leaves down everything can be deleted.
    assert!(delete(store, &shop.credential).await.unwrap());
    assert!(delete(store, &shop.consumer).await.unwrap());
    assert!(delete(store, &shop.app).await.unwrap());
    assert!(delete(store, &shop.subscription).await.unwrap());
    assert!(delete(store, &shop.customer).await.unwrap());
    assert!(delete(store, &shop.publish).await.unwrap());
    assert!(delete(store, &shop.plan).await.unwrap());
    assert!(delete(store, &shop.product).await.unwrap());
    assert!(delete(store, &shop.gateway).await.unwrap());
    assert!(delete(store, &shop.service).await.unwrap());
    assert!(delete(store, &shop.cluster).await.unwrap());
    assert!(delete(store, &shop.tenant).await.unwrap());
}

/// A publish that still claims hostnames cannot be deleted: its claims would be orphans.
#[rstest]
#[tokio::test]
async fn claims_hold_their_publish(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    in_use(delete(&store, &shop.publish).await, &["product-publishes"]);
}

#[rstest]
#[tokio::test]
async fn a_service_that_only_a_publish_names(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let mut shop = Shop::open(&store, "acme").await;
    shop.publish.spec.api_services = vec![shop.service.id];
    shop.product.spec.api_services.clear();
    let (publish, product) = (&shop.publish, &shop.product);
    let edit = async |tx: &mut _| {
        publish.update(tx, 1).await?;
        product.update(tx, 1).await
    };
    write(&store, edit).await.unwrap();
    in_use(delete(&store, &shop.service).await, &["product-publishes"]);
    let published = async |tx: &mut _| api_service::is_published(tx, shop.service.id).await;
    assert!(write(&store, published).await.unwrap());
}

#[rstest]
#[tokio::test]
async fn a_service_is_published_by_the_list_of_the_product_or_of_the_publish(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let mut shop = Shop::open(&store, "acme").await;
    let mut another = shop::service(shop.tenant.id);
    another.spec.name = "another".to_owned();
    shop.product.spec.api_services.push(another.id);
    let add = async |tx: &mut _| {
        another.insert(tx).await?;
        shop.product.update(tx, 1).await
    };
    write(&store, add).await.unwrap();
    let published =
        async |id| write(&store, async |tx| api_service::is_published(tx, id).await).await.unwrap();
    assert!(published(shop.service.id).await && published(another.id).await);
    shop.publish.spec.api_services = vec![shop.service.id];
    write(&store, async |tx| shop.publish.update(tx, 1).await).await.unwrap();
    assert!(published(shop.service.id).await && !published(another.id).await);
}

#[rstest]
#[tokio::test]
async fn parts_go_with_the_whole(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let cluster = shop::cluster("idle");
    let (agent, token) = (shop::agent(cluster.id), shop::registration_token(cluster.id));
    let add = async |tx: &mut _| {
        cluster.insert(tx).await?;
        registration_token::insert(tx, &token, &hash("r")).await?;
        agent.insert(tx).await
    };
    write(&store, add).await.unwrap();
    assert!(delete(&store, &cluster).await.unwrap());
    assert_eq!(Agent::get(&store, &all(), agent.id).await.unwrap(), None);
    assert_eq!(RegistrationToken::get(&store, &all(), token.id).await.unwrap(), None);

    let unclaim = async |tx: &mut _| {
        product_publish::replace_claims(tx, &shop.publish, &[], shop::day()).await?;
        ProductPublish::delete(tx, &all(), shop.publish.id).await
    };
    assert!(write(&store, unclaim).await.unwrap());
    assert!(
        product_publish::list_revisions(&store, shop.publish.id, i64::MAX, 9)
            .await
            .unwrap()
            .is_empty()
    );
}

#[rstest]
#[tokio::test]
async fn a_cancelled_subscription_still_holds_its_plan(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let mut shop = Shop::open(&store, "acme").await;
    shop.subscription.status = SubscriptionStatus::Cancelled;
    write(&store, async |tx| shop.subscription.update(tx, 1).await).await.unwrap();
    in_use(delete(&store, &shop.plan).await, &["subscriptions"]);
    let plans = Plan::list(&store, &all(), &Default::default(), Page::all()).await.unwrap();
    assert_eq!(plans, [shop.plan]);
}
