//! A database of the former release works after the migrations.

use imp_core::cluster::Cluster;
use imp_core::domain::Domain;
use imp_core::domain::DomainStatus;
use imp_core::port::usual_ranges;
use imp_core::{AgentId, SubscriptionId};
use imp_store::Record as _;
use imp_store::domain::DomainFilter;
use imp_store::testing::Kind;
use imp_store::{Page, StoreError, Writable as _, listener_port, product_publish, usage};
use rstest::rstest;
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};

use crate::shop::{Shop, all, claims, day, store, write};

/// Reverts the migration, so that opening the database applies it to existing rows.
const BEFORE: &str = "DROP TABLE port_claims; DROP TABLE listener_ports; \
    DROP TABLE hostname_holders; DROP TABLE domains; \
    ALTER TABLE clusters DROP COLUMN port_ranges; DELETE FROM _sqlx_migrations WHERE version = 3;";

#[rstest]
#[tokio::test]
async fn what_was_published_before_hostnames_were_proven_goes_on(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (database, store) = store(kind).await;
    let (acme, other) = (Shop::open(&store, "acme").await, Shop::open(&store, "other").await);
    store.close().await;
    match kind {
        Kind::Sqlite => {
            let mut one = SqliteConnection::connect(database.url()).await.unwrap();
            one.execute(BEFORE).await.unwrap();
        }
        Kind::Postgres => {
            let mut one = PgConnection::connect(database.url()).await.unwrap();
            one.execute(BEFORE).await.unwrap();
        }
    }
    let store = database.open().await.unwrap();
    let filter = DomainFilter { status: Some(DomainStatus::Granted), ..Default::default() };
    let mut domains = Domain::list(&store, &all(), &filter, Page::all()).await.unwrap();
    domains.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    let seen: Vec<_> = domains.iter().map(|it| (it.tenant_id, it.spec.name.as_str())).collect();
    assert_eq!(
        seen,
        [(acme.tenant.id, "acme.example.com"), (other.tenant.id, "other.example.com")]
    );
    let hosts = &acme.publish.spec.hostnames;
    let ask = async |tx: &mut _| {
        product_publish::held_by_another(tx, other.tenant.id, hosts, day().now).await
    };
    assert_eq!(write(&store, ask).await.unwrap().as_ref(), hosts.first());
    let (gateway, home) = (acme.gateway.id, acme.cluster.id);
    let ports = write(&store, async |tx| listener_port::claimed_by(tx, gateway, home).await).await;
    let wanted = listener_port::Port::all(&acme.gateway.spec);
    assert_eq!(ports.unwrap(), wanted);
    let cluster = Cluster::get(&store, &all(), home).await.unwrap().unwrap();
    assert_eq!(cluster.spec.port_ranges, usual_ranges());
}

/// Reverts the migration that adds what is needed to price usage.
const UNPRICED: &str = "ALTER TABLE usage_counters DROP COLUMN tenant_id; \
    ALTER TABLE usage_counters DROP COLUMN customer_id; \
    ALTER TABLE usage_counters DROP COLUMN plan_id; \
    ALTER TABLE usage_counters DROP COLUMN plan_version; \
    ALTER TABLE usage_counters DROP COLUMN product_id; \
    ALTER TABLE usage_counters DROP COLUMN environment; \
    ALTER TABLE usage_counters DROP COLUMN plan_key; \
    DELETE FROM _sqlx_migrations WHERE version IN (10, 14);";

#[rstest]
#[tokio::test]
async fn usage_from_before_says_whose_it_is_as_far_as_that_is_known(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let counted = |subscription_id, allowed| usage::Row {
        product_publish_id: shop.publish.id,
        subscription_id,
        consumer_id: None,
        hour: shop.publish.meta.created_at,
        allowed,
        limited: 0,
        terms: usage::Terms::default(),
        plan_key: String::new(),
    };
    let gone = SubscriptionId::new();
    let rows = [counted(Some(shop.subscription.id), 5), counted(Some(gone), 7), counted(None, 1)];
    let agent = AgentId::new();
    write(&store, async |tx| usage::record(tx, agent, "one", &rows).await).await.unwrap();
    store.close().await;
    match kind {
        Kind::Sqlite => {
            let mut one = SqliteConnection::connect(database.url()).await.unwrap();
            one.execute(UNPRICED).await.unwrap();
        }
        Kind::Postgres => {
            let mut one = PgConnection::connect(database.url()).await.unwrap();
            one.execute(UNPRICED).await.unwrap();
        }
    }
    let store = database.open().await.unwrap();
    let known = usage::totals(&store, shop.subscription.id, 0, 10).await.unwrap();
    let expected = usage::Terms {
        tenant_id: Some(shop.tenant.id),
        customer_id: Some(shop.customer.id),
        product_id: Some(shop.product.id),
        environment: Some(shop.subscription.environment),
        // It may have been another plan then.
        ..usage::Terms::default()
    };
    assert_eq!((known[0].terms, known[0].allowed), (expected, 5));
    let unknown = usage::totals(&store, gone, 0, 10).await.unwrap();
    assert_eq!((unknown[0].terms, unknown[0].allowed), (usage::Terms::default(), 7));
}

/// Reverts the migration that lets several gateways serve a host.
const ONE_GATEWAY_SQLITE: &str = "CREATE TABLE former ( \
        cluster_id BLOB NOT NULL, hostname TEXT NOT NULL, base_path TEXT NOT NULL, \
        product_publish_id BLOB NOT NULL, tenant_id BLOB NOT NULL, \
        PRIMARY KEY (cluster_id, hostname, base_path)) STRICT; \
    INSERT INTO former SELECT cluster_id, hostname, base_path, product_publish_id, tenant_id \
        FROM product_publish_claims; \
    DROP TABLE product_publish_claims; ALTER TABLE former RENAME TO product_publish_claims; \
    DELETE FROM _sqlx_migrations WHERE version = 18;";
const ONE_GATEWAY_POSTGRES: &str = "ALTER TABLE product_publish_claims \
        DROP CONSTRAINT key_product_publish_claims__hostname, DROP COLUMN gateway_id, \
        ADD CONSTRAINT uq_product_publish_claims__hostname \
            PRIMARY KEY (cluster_id, hostname, base_path); \
    DELETE FROM _sqlx_migrations WHERE version = 18;";

#[rstest]
#[tokio::test]
async fn what_was_claimed_before_claims_knew_their_gateway_is_its_publishs(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    store.close().await;
    match kind {
        Kind::Sqlite => {
            let mut one = SqliteConnection::connect(database.url()).await.unwrap();
            one.execute(ONE_GATEWAY_SQLITE).await.unwrap();
        }
        Kind::Postgres => {
            let mut one = PgConnection::connect(database.url()).await.unwrap();
            one.execute(ONE_GATEWAY_POSTGRES).await.unwrap();
        }
    }
    let store = database.open().await.unwrap();
    let (cluster, hosts) = (shop.cluster.id, shop.publish.spec.hostnames.clone());
    let ask = async |tx: &mut _| product_publish::claims_on(tx, cluster, &hosts).await;
    assert_eq!(write(&store, ask).await.unwrap(), claims(&shop.publish));
    // The database knows it, too: otherwise it would take the place for another gateway's.
    let again = shop.another_publish(&hosts[0], "/");
    let insert = async |tx: &mut _| {
        again.insert(tx).await?;
        product_publish::replace_claims(tx, &again, &claims(&again), day()).await
    };
    let taken = write(&store, insert).await;
    assert!(matches!(taken, Err(StoreError::Taken { field: "hostnames" })), "{taken:?}");
}
