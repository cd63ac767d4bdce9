//! Rows of a newer release: each is read as far as this one understands it.

use imp_core::api_service::ApiService;
use imp_core::gateway::Gateway;
use imp_core::product::Product;
use imp_core::product_publish::{ProductPublish, PublishStatus};
use imp_core::stored;
use imp_core::subscription::Subscription;
use imp_store::compile::{self, Which};
use imp_store::testing::{Database, Kind};
use imp_store::{Record as _, plan, product_publish};
use rstest::rstest;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqliteConnection};

use crate::shop::{Shop, all, store, write};

async fn run(database: &Database, kind: Kind, sql: &str) {
    match kind {
        Kind::Sqlite => {
            let mut one = SqliteConnection::connect(database.url()).await.unwrap();
            one.execute(AssertSqlSafe(sql)).await.unwrap();
        }
        Kind::Postgres => {
            let mut one = PgConnection::connect(database.url()).await.unwrap();
            one.execute(AssertSqlSafe(sql)).await.unwrap();
        }
    }
}

/// Adds a field to the first object of a JSON column.
fn wider(kind: Kind, table: &str, column: &str) -> String {
    match kind {
        Kind::Sqlite => format!(
            "UPDATE {table} SET {column} = replace({column}, '{{\"id\"', '{{\"newer\":[1],\"id\"');\
             UPDATE {table} SET {column} = replace({column}, '{{\"name\"', '{{\"newer\":[1],\"name\"');\
             UPDATE {table} SET {column} = replace({column}, '{{\"product_id\"', '{{\"newer\":[1],\"product_id\"');"
        ),
        Kind::Postgres => format!(
            "UPDATE {table} SET {column} = \
             replace(replace(replace({column}::text, '{{\"id\"', '{{\"newer\":[1],\"id\"'), \
             '{{\"name\"', '{{\"newer\":[1],\"name\"'), \
             '\"gateway_id\":', '\"newer\":[1],\"gateway_id\":')::jsonb;"
        ),
    }
}

#[rstest]
#[tokio::test]
async fn fields_that_a_newer_release_added_are_passed_over(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    let frozen = compile::publishes(&store, Which::Ids(&[shop.publish.id])).await.unwrap();
    let frozen = frozen[0].content.as_ref().unwrap();
    for (table, column) in [
        ("api_services", "routes"),
        ("api_services", "backends"),
        ("api_services", "policies"),
        ("gateways", "listeners"),
        ("plan_versions", "terms"),
        ("product_publish_revisions", "spec"),
        ("product_publish_revisions", "api_services"),
    ] {
        run(&database, kind, &wider(kind, table, column)).await;
    }
    let mut service = ApiService::get(&store, &all(), shop.service.id).await.unwrap().unwrap();
    assert_eq!(service.spec, shop.service.spec);
    let gateway = Gateway::get(&store, &all(), shop.gateway.id).await.unwrap().unwrap();
    assert_eq!(gateway.spec, shop.gateway.spec);
    let (id, version) = (shop.plan.id, shop.plan.plan_version);
    let terms = write(&store, async |tx| plan::version_in(tx, id, version).await).await.unwrap();
    assert!(terms.is_some());
    let read = compile::publishes(&store, Which::Ids(&[shop.publish.id])).await.unwrap();
    let again = read[0].content.as_ref().unwrap();
    assert_eq!((&again.spec, &again.api_services), (&frozen.spec, &frozen.api_services));
    let revision =
        product_publish::get_revision(&store, shop.publish.id, 1).await.unwrap().unwrap();
    assert_eq!(revision.spec, frozen.spec);
    // An edit writes this release's form.
    let expected = service.meta.version;
    service.meta.version += 1;
    let update = async |tx: &mut _| service.update(tx, expected).await;
    write(&store, update).await.unwrap();
    let again = ApiService::get(&store, &all(), shop.service.id).await.unwrap().unwrap();
    assert_eq!(again.spec, shop.service.spec);
}

#[rstest]
#[tokio::test]
async fn a_state_that_this_release_does_not_know_stays_and_hurts_its_row_alone(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (database, store) = store(kind).await;
    let (one, other) = (Shop::open(&store, "acme").await, Shop::open(&store, "other").await);
    for table in ["product_publishes", "subscriptions", "api_services", "products", "plans"] {
        let tenant = one.tenant.id.0.simple();
        let tenant = match kind {
            Kind::Sqlite => format!("x'{tenant}'"),
            Kind::Postgres => format!("'{tenant}'"),
        };
        let sql = format!("UPDATE {table} SET status = 'degraded' WHERE tenant_id = {tenant}");
        run(&database, kind, &sql).await;
    }
    let mut publish = ProductPublish::get(&store, &all(), one.publish.id).await.unwrap().unwrap();
    assert_eq!(publish.status, stored::read_word::<PublishStatus>("degraded").unwrap());
    assert_eq!(
        ProductPublish::list(&store, &all(), &Default::default(), imp_store::Page::all())
            .await
            .unwrap()
            .len(),
        2
    );
    // Written back unchanged.
    let expected = publish.meta.version;
    publish.meta.version += 1;
    let update = async |tx: &mut _| publish.update(tx, expected).await;
    write(&store, update).await.unwrap();
    let again = ProductPublish::get(&store, &all(), one.publish.id).await.unwrap().unwrap();
    assert_eq!(again.status.as_str(), "degraded");
    let bought = Subscription::get(&store, &all(), one.subscription.id).await.unwrap().unwrap();
    assert_eq!(bought.status.as_str(), "degraded");
    // Gateways keep what they have of it; the other tenant's is read as usual.
    let ids = [one.publish.id, other.publish.id];
    for row in compile::publishes(&store, Which::Ids(&ids)).await.unwrap() {
        let told = row.content.as_ref().map(|it| it.id).map_err(|error| error.to_string());
        match told {
            Ok(id) => assert_eq!(id, other.publish.id),
            Err(why) => assert!(why.contains("does not know 'degraded'"), "{why}"),
        }
    }
    let ids = [one.subscription.id, other.subscription.id];
    let rows = compile::subscriptions(&store, Which::Ids(&ids)).await.unwrap();
    let known: Vec<_> = rows.iter().filter(|row| row.content.is_ok()).map(|row| row.id).collect();
    assert_eq!(known, [other.subscription.id]);
}

#[rstest]
#[tokio::test]
async fn a_word_that_this_release_does_not_know_is_shown_and_written_back(
    #[values(Kind::Sqlite, Kind::Postgres)] kind: Kind,
) {
    let (database, store) = store(kind).await;
    let shop = Shop::open(&store, "acme").await;
    for sql in [
        "UPDATE product_publishes SET environment = 'moon', auth_mode = 'fido', delivery = 'mail'",
        "UPDATE gateways SET gateway_class = 'istio'",
        "UPDATE products SET visibility = 'partners'",
    ] {
        run(&database, kind, sql).await;
    }
    let mut publish = ProductPublish::get(&store, &all(), shop.publish.id).await.unwrap().unwrap();
    let expected = publish.meta.version;
    publish.meta.version += 1;
    write(&store, async |tx| publish.update(tx, expected).await).await.unwrap();
    let again = ProductPublish::get(&store, &all(), shop.publish.id).await.unwrap().unwrap();
    let shown = serde_json::to_value(&again).unwrap();
    assert_eq!(shown["environment"], "moon");
    assert_eq!((&shown["auth_mode"], &shown["delivery"]), (&"fido".into(), &"mail".into()));
    let gateway = Gateway::get(&store, &all(), shop.gateway.id).await.unwrap().unwrap();
    assert_eq!(gateway.spec.gateway_class.as_str(), "istio");
    let product = Product::get(&store, &all(), shop.product.id).await.unwrap().unwrap();
    assert_eq!(product.spec.visibility.as_str(), "partners");
}
