//! Table `consumers`. Subscription and app are of the same customer; the foreign keys see to it.

use imp_core::consumer::{Consumer, ConsumerSpec};
use imp_core::scope::TenantScope;
use imp_core::{ClientAppId, ConsumerId, CustomerId, SubscriptionId};
use uuid::Uuid;

use crate::sql::Conditions;
use crate::table::{MetaRow, Table, explained, matched, object, tenant_and_customer};
use crate::{Result, Tx};

/// Which consumers to list.
#[derive(Clone, Debug, Default)]
pub struct ConsumerFilter {
    /// Of this customer.
    pub customer_id: Option<CustomerId>,
    /// Under this subscription.
    pub subscription_id: Option<SubscriptionId>,
    /// Of this app.
    pub client_app_id: Option<ClientAppId>,
}

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    id: Uuid,
    tenant_id: Uuid,
    customer_id: Uuid,
    subscription_id: Uuid,
    client_app_id: Uuid,
    #[sqlx(flatten)]
    meta: MetaRow,
}

impl From<Row> for Consumer {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            customer_id: row.customer_id.into(),
            spec: ConsumerSpec {
                subscription_id: row.subscription_id.into(),
                client_app_id: row.client_app_id.into(),
            },
            meta: row.meta.into(),
        }
    }
}

object!(Consumer, ConsumerId, ConsumerFilter, "consumers");

impl Table for Consumer {
    type Row = Row;

    const COLUMNS: &'static str = "id, tenant_id, customer_id, subscription_id, client_app_id, \
        version, created_at, updated_at";

    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_and_customer(scope, conditions);
    }

    fn filter<'a>(filter: &'a ConsumerFilter, conditions: &mut Conditions<'a>) {
        conditions.id("customer_id =", filter.customer_id);
        conditions.id("subscription_id =", filter.subscription_id);
        conditions.id("client_app_id =", filter.client_app_id);
    }
}

/// Adds it.
pub async fn insert(tx: &mut Tx, consumer: &Consumer) -> Result<()> {
    let sql = "INSERT INTO consumers (id, tenant_id, customer_id, subscription_id, \
        client_app_id, version, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    save(tx, sql, consumer, 0).await.map(drop)
}

/// Replaces it if it still is at `expected_version`. What it joins stays.
pub async fn update(tx: &mut Tx, consumer: &Consumer, expected_version: i64) -> Result<()> {
    let sql = "UPDATE consumers SET version = $6, updated_at = $8 \
        WHERE id = $1 AND tenant_id = $2 AND version = $9";
    let rows = save(tx, sql, consumer, expected_version).await?;
    matched::<Consumer>(tx, rows, consumer.id.into()).await
}

async fn save(tx: &mut Tx, sql: &'static str, consumer: &Consumer, expected: i64) -> Result<u64> {
    let Consumer { id, tenant_id, customer_id, spec, meta } = consumer;
    let done = execute!(
        tx.conn(),
        sql,
        id.0,
        tenant_id.0,
        customer_id.0,
        spec.subscription_id.0,
        spec.client_app_id.0,
        meta.version,
        meta.created_at,
        meta.updated_at,
        expected,
    );
    let references = [
        ("subscription_id", "subscriptions", Some(spec.subscription_id.0)),
        ("client_app_id", "client_apps", Some(spec.client_app_id.0)),
        ("customer_id", "customers", Some(customer_id.0)),
    ];
    explained(tx, done, Some(tenant_id.0), &references).await
}
