//! What lies outside of a scope does not exist: not for reading, not for deleting.

use imp_core::product::Visibility;
use imp_core::{CustomerId, SubscriptionId};
use imp_store::testing::Kind;
use imp_store::{
    Page, agent, api_service, api_token, client_app, cluster, consumer, credential, customer,
    domain, gateway, plan, product, product_publish, registration_token, subscription, tenant,
};
use rstest::rstest;

use crate::shop::{self, Shop, hash, store, write};

macro_rules! hidden {
    ($store:expr, $scope:expr, $($module:ident: $it:expr),* $(,)?) => {$(
        let name = stringify!($module);
        assert_eq!($module::get($store, $scope, $it.id).await.unwrap(), None, "{name}");
        let list = $module::list($store, $scope, &Default::default(), Page::all()).await.unwrap();
        assert!(!list.contains(&$it), "{name}: in the list");
        let gone = write($store, async |tx| $module::delete(tx, $scope, $it.id).await).await;
        assert!(!gone.unwrap(), "{name}: deleted");
    )*};
}

macro_rules! seen {
    ($store:expr, $scope:expr, $($module:ident: $it:expr),* $(,)?) => {$(
        let name = stringify!($module);
        let got = $module::get($store, $scope, $it.id).await.unwrap();
        assert_eq!(got.as_ref(), Some(&$it), "{name}");
        let mut tx = $store.begin().await.unwrap();
        assert_eq!($module::get_in(&mut tx, $scope, $it.id).await.unwrap(), got, "{name}");
        let list = $module::list($store, $scope, &Default::default(), Page::all()).await.unwrap();
        assert!(list.contains(&$it), "{name}: not in the list");
        tx.rollback().await.unwrap();
    )*};
}

#[rstest]
#[tokio::test]
async fn another_tenant_s(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let (acme, other) = (Shop::open(&store, "acme").await, Shop::open(&store, "other").await);
    let token = shop::api_token(Some(other.tenant.id), None);
    write(&store, async |tx| api_token::insert(tx, &token, &hash("t")).await).await.unwrap();
    let operators = shop::api_token(None, None);
    write(&store, async |tx| api_token::insert(tx, &operators, &hash("o")).await).await.unwrap();
    let (mine, theirs) =
        (shop::domain(acme.tenant.id, "a.org"), shop::domain(other.tenant.id, "a.org"));
    write(&store, async |tx| domain::insert(tx, &mine).await).await.unwrap();
    write(&store, async |tx| domain::insert(tx, &theirs).await).await.unwrap();
    let (store, scope) = (&store, &acme.scope());
    hidden!(
        store, scope,
        domain: theirs,
        tenant: other.tenant, api_token: token, api_token: operators, api_service: other.service,
        gateway: other.gateway, product: other.product, plan: other.plan,
        product_publish: other.publish, customer: other.customer,
        subscription: other.subscription, client_app: other.app, consumer: other.consumer,
        credential: other.credential,
    );
    seen!(
        store, scope,
        domain: mine,
        tenant: acme.tenant, cluster: other.cluster, api_service: acme.service,
        gateway: acme.gateway, product: acme.product, plan: acme.plan,
        product_publish: acme.publish, customer: acme.customer, subscription: acme.subscription,
        client_app: acme.app, consumer: acme.consumer, credential: acme.credential,
    );
    seen!(store, &other.scope(), product: other.product, credential: other.credential);
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
    hidden!(&store, &shop.scope(), registration_token: token);
    seen!(&store, &shop::all(), registration_token: token);
    let agent = shop::agent(shop.cluster.id);
    write(&store, async |tx| agent::insert(tx, &agent).await).await.unwrap();
    seen!(&store, &shop.scope(), agent: agent);
}

#[rstest]
#[tokio::test]
async fn another_customer_s(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let mut stranger = shop.clone();
    stranger.customer.id = CustomerId::new();
    stranger.customer.spec.name = "another".to_owned();
    write(&store, async |tx| customer::insert(tx, &stranger.customer).await).await.unwrap();
    let (store, scope) = (&store, &stranger.customer_scope());
    hidden!(
        store, scope,
        customer: shop.customer, subscription: shop.subscription, client_app: shop.app,
        consumer: shop.consumer, credential: shop.credential,
    );
    seen!(store, scope, customer: stranger.customer);
    let own = &shop.customer_scope();
    seen!(
        store, own,
        customer: shop.customer, subscription: shop.subscription, client_app: shop.app,
        consumer: shop.consumer, credential: shop.credential,
    );
}

/// Of the catalogue a customer sees what is public and what it subscribes to.
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
    write(&store, async |tx| customer::insert(tx, &stranger.customer).await).await.unwrap();
    let scope = &stranger.customer_scope();
    let (product, plan, publish) = (&shop.product, &shop.plan, &shop.publish);
    hidden!(&store, scope, product: *product, plan: *plan, product_publish: *publish);
    let own = &shop.customer_scope();
    seen!(&store, own, product: *product, plan: *plan, product_publish: *publish);

    let mut subscription = shop.subscription.clone();
    (subscription.id, subscription.customer_id) = (SubscriptionId::new(), stranger.customer.id);
    write(&store, async |tx| subscription::insert(tx, &subscription).await).await.unwrap();
    seen!(&store, scope, product: *product, plan: *plan, product_publish: *publish);
    write(&store, async |tx| subscription::delete(tx, &shop::all(), subscription.id).await)
        .await
        .unwrap();
    shop.product.spec.visibility = Visibility::Public;
    write(&store, async |tx| product::update(tx, &shop.product, 1).await).await.unwrap();
    let (product, plan, publish) = (&shop.product, &shop.plan, &shop.publish);
    seen!(&store, scope, product: *product, plan: *plan, product_publish: *publish);
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
            product_publish::insert(tx, &publish).await?;
            product_publish::replace_claims(tx, &publish, &shop::claims(&publish), shop::day())
                .await
        };
        write(&store, add).await.unwrap();
        all.push(publish);
    }
    let scope = shop.scope();
    let page = async |after, limit| {
        let filter = Default::default();
        product_publish::list(&store, &scope, &filter, Page { after, limit }).await.unwrap()
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
    let found = product_publish::list(&store, &scope, &filter, Page::all()).await.unwrap();
    assert_eq!(found, all[3..4]);
}
