//! The database itself refuses taken names and references to missing or other tenants' rows, and
//! the error names the field.

use imp_core::cluster::Cluster;
use imp_core::product_publish::{Environment, ProductPublish};
use imp_core::subscription::Subscription;
use imp_core::{
    ApiServiceId, ClientAppId, ClusterId, ConsumerId, CredentialId, CustomerId, GatewayId, PlanId,
    ProductId, ProductPublishId, SubscriptionId, TenantId,
};
use imp_store::Record as _;
use imp_store::Writable as _;
use imp_store::testing::Kind;
use imp_store::{
    Result, StoreError, api_token, credential, plan, product_publish, registration_token,
};
use rstest::rstest;

use crate::shop::{self, Shop, hash, store, write};

#[track_caller]
fn taken(done: Result<()>, field: &str) {
    assert!(matches!(&done, Err(StoreError::Taken { field: it }) if *it == field), "{done:?}");
}

#[track_caller]
fn missing(done: Result<()>, field: &str) {
    let is = |it: &str| it == field;
    assert!(matches!(&done, Err(StoreError::MissingReference { field }) if is(field)), "{done:?}");
}

#[rstest]
#[tokio::test]
async fn taken_names(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let Shop {
        mut tenant,
        mut cluster,
        mut service,
        mut gateway,
        mut product,
        mut plan,
        mut customer,
        mut app,
        mut consumer,
        mut credential,
        publish,
        ..
    } = Shop::open(&store, "acme").await;
    tenant.id = TenantId::new();
    taken(write(&store, async |tx| tenant.insert(tx).await).await, "slug");
    cluster.id = ClusterId::new();
    taken(write(&store, async |tx| cluster.insert(tx).await).await, "name");
    service.id = ApiServiceId::new();
    taken(write(&store, async |tx| service.insert(tx).await).await, "name");
    gateway.id = GatewayId::new();
    taken(write(&store, async |tx| gateway.insert(tx).await).await, "name");
    product.id = ProductId::new();
    taken(write(&store, async |tx| product.insert(tx).await).await, "name");
    plan.id = PlanId::new();
    taken(write(&store, async |tx| plan.insert(tx).await).await, "name");
    customer.id = CustomerId::new();
    taken(write(&store, async |tx| customer.insert(tx).await).await, "name");
    app.id = ClientAppId::new();
    taken(write(&store, async |tx| app.insert(tx).await).await, "name");
    consumer.id = ConsumerId::new();
    taken(write(&store, async |tx| consumer.insert(tx).await).await, "client_app_id");
    let key = hash(&credential.id.to_string());
    credential.id = CredentialId::new();
    let again = write(&store, async |tx| credential::insert(tx, &credential, &key).await).await;
    taken(again, "secret_hash");
    taken(write(&store, async |tx| publish.insert(tx).await).await, "id");

    // A name with another version is another name.
    service.spec.api_version = "v2".to_owned();
    write(&store, async |tx| service.insert(tx).await).await.unwrap();
    product.spec.product_version = "v2".to_owned();
    write(&store, async |tx| product.insert(tx).await).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn a_name_that_becomes_taken_by_an_edit(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let mut another = shop::gateway(shop.tenant.id);
    another.spec.name = "another".to_owned();
    write(&store, async |tx| another.insert(tx).await).await.unwrap();
    another.spec.name = shop.gateway.spec.name.clone();
    taken(write(&store, async |tx| another.update(tx, 1).await).await, "name");
}

#[rstest]
#[tokio::test]
async fn references_to_nothing(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let nowhere = Shop::new("nowhere");
    let service = shop::service(nowhere.tenant.id);
    missing(write(&store, async |tx| service.insert(tx).await).await, "tenant_id");
    let gateway = shop::gateway(nowhere.tenant.id);
    missing(write(&store, async |tx| gateway.insert(tx).await).await, "tenant_id");
    let token = shop::registration_token(nowhere.cluster.id);
    let done =
        write(&store, async |tx| registration_token::insert(tx, &token, &hash("r")).await).await;
    missing(done, "cluster_id");
    let orphan = shop::agent(nowhere.cluster.id);
    missing(write(&store, async |tx| orphan.insert(tx).await).await, "cluster_id");
    let mut publish = shop.another_publish("another.example.com", "/");
    publish.spec.cluster_id = nowhere.cluster.id;
    let done = write(&store, async |tx| publish.insert(tx).await).await;
    missing(done, "cluster_id");
    let revision = nowhere.revision(1);
    let add = async |tx: &mut _| product_publish::insert_revision(tx, &revision).await;
    missing(write(&store, add).await, "product_publish_id");
    let (id, terms) = (nowhere.plan.id, &nowhere.plan.spec);
    missing(
        write(&store, async |tx| plan::insert_version(tx, id, 1, terms).await).await,
        "plan_id",
    );
}

type Change<'a, T> = &'a dyn Fn(&mut T);

/// Every reference from `acme` to an object of `other`.
#[rstest]
#[tokio::test]
async fn references_to_another_tenant(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let acme = Shop::open(&store, "acme").await;
    let other = Shop::open(&store, "other").await;

    let mut product = shop::product(acme.tenant.id, &[acme.service.id, other.service.id]);
    product.spec.name = "another".to_owned();
    missing(write(&store, async |tx| product.insert(tx).await).await, "api_services");
    let mut edited = acme.product.clone();
    edited.spec.api_services.push(other.service.id);
    missing(write(&store, async |tx| edited.update(tx, 1).await).await, "api_services");
    let mut plan = shop::plan(acme.tenant.id, other.product.id);
    plan.spec.name = "another".to_owned();
    missing(write(&store, async |tx| plan.insert(tx).await).await, "product_id");

    let publish = acme.another_publish("another.example.com", "/");
    let changes: [(&str, Change<'_, ProductPublish>); 3] = [
        ("product_id", &|it| it.spec.product_id = other.product.id),
        ("gateway_id", &|it| it.spec.gateway_id = other.gateway.id),
        ("api_services", &|it| it.spec.api_services = vec![other.service.id]),
    ];
    for (field, change) in changes {
        let mut publish = publish.clone();
        change(&mut publish);
        let done = write(&store, async |tx| publish.insert(tx).await).await;
        missing(done, field);
    }

    let changes: [(&str, Change<'_, Subscription>); 4] = [
        ("customer_id", &|it| it.customer_id = other.customer.id),
        ("product_id", &|it| it.product_id = other.product.id),
        ("plan_id", &|it| it.plan_id = other.plan.id),
        ("product_publish_id", &|it| it.product_publish_id = Some(other.publish.id)),
    ];
    for (field, change) in changes {
        let mut subscription = acme.subscription.clone();
        subscription.id = SubscriptionId::new();
        subscription.environment = Environment::Dev;
        change(&mut subscription);
        let done = write(&store, async |tx| subscription.insert(tx).await).await;
        missing(done, field);
    }

    let mut app = acme.app.clone();
    (app.id, app.spec.customer_id) = (ClientAppId::new(), other.customer.id);
    app.spec.name = "another".to_owned();
    missing(write(&store, async |tx| app.insert(tx).await).await, "customer_id");
    let mut consumer = acme.consumer;
    (consumer.id, consumer.spec.client_app_id) = (ConsumerId::new(), other.app.id);
    let done = write(&store, async |tx| consumer.insert(tx).await).await;
    missing(done, "client_app_id");
    consumer.spec = acme.consumer.spec;
    consumer.spec.subscription_id = other.subscription.id;
    let done = write(&store, async |tx| consumer.insert(tx).await).await;
    missing(done, "subscription_id");
    let mut credential = shop::credential(&acme.consumer);
    credential.spec.consumer_id = other.consumer.id;
    let done =
        write(&store, async |tx| credential::insert(tx, &credential, &hash("c")).await).await;
    missing(done, "consumer_id");
    let token = shop::api_token(Some(acme.tenant.id), Some(other.customer.id));
    let done = write(&store, async |tx| api_token::insert(tx, &token, &hash("t")).await).await;
    missing(done, "customer_id");
}

/// One customer's app on another customer's subscription, in the same tenant.
#[rstest]
#[tokio::test]
async fn references_to_another_customer(#[values(Kind::Sqlite, Kind::Postgres)] kind: Kind) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let (mut customer, mut app) = (shop.customer.clone(), shop.app.clone());
    (customer.id, customer.spec.name) = (CustomerId::new(), "another".to_owned());
    (app.id, app.spec.customer_id) = (ClientAppId::new(), customer.id);
    let add = async |tx: &mut _| {
        customer.insert(tx).await?;
        app.insert(tx).await
    };
    write(&store, add).await.unwrap();
    let mut consumer = shop.consumer;
    (consumer.id, consumer.spec.client_app_id) = (ConsumerId::new(), app.id);
    let done = write(&store, async |tx| consumer.insert(tx).await).await;
    assert!(matches!(done, Err(StoreError::MissingReference { .. })), "{done:?}");
}

#[rstest]
#[tokio::test]
async fn a_refused_write_leaves_nothing_of_its_transaction(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (_database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let cluster = shop::cluster("new");
    let mut publish = shop.publish.clone();
    publish.id = ProductPublishId::new();
    let both = async |tx: &mut _| {
        cluster.insert(tx).await?;
        publish.insert(tx).await?;
        product_publish::replace_claims(tx, &publish, &shop::claims(&publish), shop::day()).await
    };
    taken(write(&store, both).await, "hostnames");
    let scope = shop::all();
    assert_eq!(Cluster::get(&store, &scope, cluster.id).await.unwrap(), None);
    assert_eq!(ProductPublish::get(&store, &scope, publish.id).await.unwrap(), None);
}
