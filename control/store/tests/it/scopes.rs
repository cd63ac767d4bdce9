//! Objects outside of a scope can be neither read nor deleted.

use std::fmt::Debug;

use imp_core::product::Visibility;
use imp_core::product_publish::ProductPublish;
use imp_core::scope::TenantScope;
use imp_core::subscription::Subscription;
use imp_core::{CustomerId, SubscriptionId};
use imp_store::Writable as _;
use imp_store::testing::Kind;
use imp_store::{Page, Record, Store, api_token, product_publish, registration_token};
use rstest::rstest;

use crate::shop::{self, Shop, hash, store, write};

async fn assert_hidden<R>(store: &Store, scope: &TenantScope, it: &R)
where
    R: Record + PartialEq + Debug,
{
    let name = R::TABLE;
    assert_eq!(R::get(store, scope, it.id()).await.unwrap(), None, "{name}");
    let list = R::list(store, scope, &R::Filter::default(), Page::all()).await.unwrap();
    assert!(!list.contains(it), "{name}: in the list");
    let gone = write(store, async |tx| R::delete(tx, scope, it.id()).await).await;
    assert!(!gone.unwrap(), "{name}: deleted");
}

async fn assert_seen<R>(store: &Store, scope: &TenantScope, it: &R)
where
    R: Record + PartialEq + Debug,
{
    let name = R::TABLE;
    let got = R::get(store, scope, it.id()).await.unwrap();
    assert_eq!(got.as_ref(), Some(it), "{name}");
    let mut tx = store.begin().await.unwrap();
    assert_eq!(R::get_in(&mut tx, scope, it.id()).await.unwrap(), got, "{name}");
    let list = R::list(store, scope, &R::Filter::default(), Page::all()).await.unwrap();
    assert!(list.contains(it), "{name}: not in the list");
    tx.rollback().await.unwrap();
}

macro_rules! hidden {
    ($store:expr, $scope:expr, $($it:expr),* $(,)?) => {
        $(assert_hidden($store, $scope, &$it).await;)*
    };
}

macro_rules! seen {
    ($store:expr, $scope:expr, $($it:expr),* $(,)?) => {
        $(assert_seen($store, $scope, &$it).await;)*
    };
}

#[rstest]
#[tokio::test]
async fn of_another_tenant(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let (acme, other) = (Shop::open(&store, "acme").await, Shop::open(&store, "other").await);
    let token = shop::api_token(Some(other.tenant.id), None);
    write(&store, async |tx| api_token::insert(tx, &token, &hash("t")).await).await.unwrap();
    let operators = shop::api_token(None, None);
    write(&store, async |tx| api_token::insert(tx, &operators, &hash("o")).await).await.unwrap();
    let (mine, theirs) =
        (shop::domain(acme.tenant.id, "a.org"), shop::domain(other.tenant.id, "a.org"));
    write(&store, async |tx| mine.insert(tx).await).await.unwrap();
    write(&store, async |tx| theirs.insert(tx).await).await.unwrap();
    let (store, scope) = (&store, &acme.scope());
    hidden!(
        store,
        scope,
        theirs,
        other.tenant,
        token,
        operators,
        other.service,
        other.gateway,
        other.product,
        other.plan,
        other.publish,
        other.customer,
        other.subscription,
        other.app,
        other.consumer,
        other.credential,
    );
    seen!(
        store,
        scope,
        mine,
        acme.tenant,
        other.cluster,
        acme.service,
        acme.gateway,
        acme.product,
        acme.plan,
        acme.publish,
        acme.customer,
        acme.subscription,
        acme.app,
        acme.consumer,
        acme.credential,
    );
    seen!(store, &other.scope(), other.product, other.credential);
}

#[rstest]
#[tokio::test]
async fn registration_tokens_from_every_tenant(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let token = shop::registration_token(shop.cluster.id);
    write(&store, async |tx| registration_token::insert(tx, &token, &hash("r")).await)
        .await
        .unwrap();
    hidden!(&store, &shop.scope(), token);
    seen!(&store, &shop::all(), token);
    let agent = shop::agent(shop.cluster.id);
    write(&store, async |tx| agent.insert(tx).await).await.unwrap();
    seen!(&store, &shop.scope(), agent);
}

#[rstest]
#[tokio::test]
async fn of_another_customer(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let mut stranger = shop.clone();
    stranger.customer.id = CustomerId::new();
    stranger.customer.spec.name = "another".to_owned();
    write(&store, async |tx| stranger.customer.insert(tx).await).await.unwrap();
    let (store, scope) = (&store, &stranger.customer_scope());
    hidden!(
        store,
        scope,
        shop.customer,
        shop.subscription,
        shop.app,
        shop.consumer,
        shop.credential,
    );
    seen!(store, scope, stranger.customer);
    let own = &shop.customer_scope();
    seen!(store, own, shop.customer, shop.subscription, shop.app, shop.consumer, shop.credential,);
}

/// A customer sees public products and those it is subscribed to.
#[rstest]
#[tokio::test]
async fn private_products_from_who_does_not_subscribe(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let mut shop = Shop::open(&store, "acme").await;
    let mut stranger = shop.clone();
    stranger.customer.id = CustomerId::new();
    stranger.customer.spec.name = "another".to_owned();
    write(&store, async |tx| stranger.customer.insert(tx).await).await.unwrap();
    let scope = &stranger.customer_scope();
    let (product, plan, publish) = (&shop.product, &shop.plan, &shop.publish);
    hidden!(&store, scope, *product, *plan, *publish);
    let own = &shop.customer_scope();
    seen!(&store, own, *product, *plan, *publish);

    let mut subscription = shop.subscription.clone();
    (subscription.id, subscription.customer_id) = (SubscriptionId::new(), stranger.customer.id);
    write(&store, async |tx| subscription.insert(tx).await).await.unwrap();
    seen!(&store, scope, *product, *plan, *publish);
    write(&store, async |tx| Subscription::delete(tx, &shop::all(), subscription.id).await)
        .await
        .unwrap();
    shop.product.spec.visibility = Visibility::Public;
    write(&store, async |tx| shop.product.update(tx, 1).await).await.unwrap();
    let (product, plan, publish) = (&shop.product, &shop.plan, &shop.publish);
    seen!(&store, scope, *product, *plan, *publish);
}

#[rstest]
#[tokio::test]
async fn pages_and_filters_cut_what_is_seen(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let mut all = vec![shop.publish.clone()];
    for index in 0..4 {
        let publish = shop.another_publish(&format!("h{index}.example.com"), "/");
        let add = async |tx: &mut _| {
            publish.insert(tx).await?;
            product_publish::replace_claims(tx, &publish, &shop::claims(&publish), shop::day())
                .await
        };
        write(&store, add).await.unwrap();
        all.push(publish);
    }
    let scope = shop.scope();
    let page = async |after, limit| {
        let filter = Default::default();
        ProductPublish::list(&store, &scope, &filter, Page { after, limit }).await.unwrap()
    };
    assert_eq!(page(None, 2).await, all[..2]);
    assert_eq!(page(Some(all[1].id.into()), 2).await, all[2..4]);
    assert_eq!(page(Some(all[4].id.into()), 2).await, []);
    let filter = product_publish::ProductPublishFilter {
        gateway_id: Some(shop.gateway.id),
        cluster_id: Some(shop.cluster.id),
        product_id: Some(shop.product.id),
        environment: Some(shop.publish.spec.environment),
        status: Some(shop.publish.status),
        hostname: Some("h2.example.com".to_owned()),
    };
    let found = ProductPublish::list(&store, &scope, &filter, Page::all()).await.unwrap();
    assert_eq!(found, all[3..4]);
}
