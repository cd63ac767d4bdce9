//! Table `subscriptions`.

use chrono::{DateTime, Utc};
use imp_core::product_publish::Environment;
use imp_core::scope::TenantScope;
use imp_core::subscription::{Subscription, SubscriptionStatus};
use imp_core::{CustomerId, PlanId, ProductId, ProductPublishId, SubscriptionId};
use uuid::Uuid;

use crate::sql::{Conditions, Word};
use crate::table::{MetaRow, Table, explained, matched, micros, reads, tenant_and_customer};
use crate::{Result, Tx};

/// Which subscriptions to list.
#[derive(Clone, Debug, Default)]
pub struct SubscriptionFilter {
    /// Of this customer.
    pub customer_id: Option<CustomerId>,
    /// To this product.
    pub product_id: Option<ProductId>,
    /// In this environment.
    pub environment: Option<Environment>,
    /// Pinned to this publish.
    pub product_publish_id: Option<ProductPublishId>,
    /// On this plan.
    pub plan_id: Option<PlanId>,
    /// In this state.
    pub status: Option<SubscriptionStatus>,
}

struct Subscriptions;

#[derive(sqlx::FromRow)]
pub(crate) struct Row {
    id: Uuid,
    tenant_id: Uuid,
    customer_id: Uuid,
    product_id: Uuid,
    environment: Word<Environment>,
    product_publish_id: Option<Uuid>,
    plan_id: Uuid,
    plan_version: i64,
    status: Word<SubscriptionStatus>,
    reason: String,
    ends_at: Option<DateTime<Utc>>,
    #[sqlx(flatten)]
    meta: MetaRow,
}

impl From<Row> for Subscription {
    fn from(row: Row) -> Self {
        Self {
            id: row.id.into(),
            tenant_id: row.tenant_id.into(),
            customer_id: row.customer_id.into(),
            product_id: row.product_id.into(),
            environment: row.environment.0,
            product_publish_id: row.product_publish_id.map(Into::into),
            plan_id: row.plan_id.into(),
            plan_version: row.plan_version,
            status: row.status.0,
            reason: row.reason,
            ends_at: row.ends_at,
            meta: row.meta.into(),
        }
    }
}

impl Table for Subscriptions {
    type Row = Row;
    type Entity = Subscription;
    type Filter = SubscriptionFilter;

    const NAME: &'static str = "subscriptions";
    const COLUMNS: &'static str = "id, tenant_id, customer_id, product_id, environment, \
        product_publish_id, plan_id, plan_version, status, reason, ends_at, version, created_at, \
        updated_at";

    fn scope(scope: &TenantScope, conditions: &mut Conditions<'_>) {
        tenant_and_customer(scope, conditions);
    }

    fn filter<'a>(filter: &'a SubscriptionFilter, conditions: &mut Conditions<'a>) {
        conditions.id("customer_id =", filter.customer_id);
        conditions.id("product_id =", filter.product_id);
        conditions.word("environment =", filter.environment);
        conditions.id("product_publish_id =", filter.product_publish_id);
        conditions.id("plan_id =", filter.plan_id);
        conditions.word("status =", filter.status);
    }
}

reads!(Subscriptions, Subscription, SubscriptionId, SubscriptionFilter);

/// Adds it.
pub async fn insert(tx: &mut Tx, subscription: &Subscription) -> Result<()> {
    let sql = "INSERT INTO subscriptions (id, tenant_id, customer_id, product_id, environment, \
        product_publish_id, plan_id, plan_version, status, reason, ends_at, version, created_at, \
        updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
    save(tx, sql, subscription, 0).await.map(drop)
}

/// Replaces it if it still is at `expected_version`. Customer, product and environment stay.
pub async fn update(tx: &mut Tx, subscription: &Subscription, expected_version: i64) -> Result<()> {
    let sql = "UPDATE subscriptions SET product_publish_id = $6, plan_id = $7, \
        plan_version = $8, status = $9, reason = $10, ends_at = $11, version = $12, \
        updated_at = $14 WHERE id = $1 AND tenant_id = $2 AND version = $15";
    let rows = save(tx, sql, subscription, expected_version).await?;
    matched::<Subscriptions>(tx, rows, subscription.id.into()).await
}

async fn save(tx: &mut Tx, sql: &'static str, it: &Subscription, expected: i64) -> Result<u64> {
    let publish = it.product_publish_id.map(Uuid::from);
    let done = execute!(
        tx.conn(),
        sql,
        it.id.0,
        it.tenant_id.0,
        it.customer_id.0,
        it.product_id.0,
        it.environment.as_str(),
        publish,
        it.plan_id.0,
        it.plan_version,
        it.status.as_str(),
        &it.reason,
        it.ends_at.map(micros),
        it.meta.version,
        it.meta.created_at,
        it.meta.updated_at,
        expected,
    );
    let references = [
        ("customer_id", "customers", Some(it.customer_id.0)),
        ("product_id", "products", Some(it.product_id.0)),
        ("product_publish_id", "product_publishes", publish),
        ("plan_id", "plans", Some(it.plan_id.0)),
    ];
    explained(tx, done, Some(it.tenant_id.0), &references).await
}
