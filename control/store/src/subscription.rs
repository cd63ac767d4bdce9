//! Table `subscriptions`.

use chrono::{DateTime, Utc};
use imp_core::product_publish::Environment;
use imp_core::scope::TenantScope;
use imp_core::subscription::{PlanChange, Subscription, SubscriptionStatus};
use imp_core::{CustomerId, PlanId, ProductId, ProductPublishId, SubscriptionId};
use uuid::Uuid;

use crate::sql::{Conditions, Word};
use crate::table::{MetaRow, Table, explained, matched, micros, object, tenant_and_customer};
use crate::{Result, Store, Tx};

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
    activated_at: Option<DateTime<Utc>>,
    next_plan_id: Option<Uuid>,
    next_plan_version: Option<i64>,
    plan_changes_at: Option<DateTime<Utc>>,
    #[sqlx(flatten)]
    meta: MetaRow,
}

impl From<Row> for Subscription {
    fn from(row: Row) -> Self {
        let change = (row.next_plan_id, row.next_plan_version, row.plan_changes_at);
        let plan_change = match change {
            (Some(plan), Some(plan_version), Some(at)) => {
                Some(PlanChange { plan_id: plan.into(), plan_version, at })
            }
            _ => None,
        };
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
            activated_at: row.activated_at,
            plan_change,
            meta: row.meta.into(),
        }
    }
}

macro_rules! columns {
    () => {
        "id, tenant_id, customer_id, product_id, environment, product_publish_id, plan_id, \
         plan_version, status, reason, ends_at, activated_at, next_plan_id, next_plan_version, \
         plan_changes_at, version, created_at, updated_at"
    };
}
pub(crate) use columns;

object!(Subscription, SubscriptionId, SubscriptionFilter, "subscriptions");

impl Table for Subscription {
    type Row = Row;

    const COLUMNS: &'static str = columns!();

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

/// The living subscriptions of a customer to a product in an environment, oldest first.
pub async fn living(
    tx: &mut Tx,
    customer: CustomerId,
    product: ProductId,
    environment: Environment,
) -> Result<Vec<Subscription>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM subscriptions WHERE customer_id = $1 AND product_id = $2 AND environment = $3 \
         AND status NOT IN ('rejected', 'cancelled', 'expired') ORDER BY id"
    );
    let word = environment.as_str();
    let rows = fetch!(tx.conn(), "subscriptions", Row, sql, customer.0, product.0, word)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Some of those whose plan was to change by now.
pub async fn due(store: &Store, now: DateTime<Utc>) -> Result<Vec<Subscription>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM subscriptions WHERE plan_changes_at <= $1 ORDER BY plan_changes_at, id LIMIT 100"
    );
    let rows = fetch!(store.read().await?.conn(), "subscriptions", Row, sql, micros(now))?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// Whether a living subscription is to move to this plan.
pub async fn awaits(tx: &mut Tx, plan: PlanId) -> Result<bool> {
    let sql = "SELECT id FROM subscriptions WHERE next_plan_id = $1 \
        AND status NOT IN ('rejected', 'cancelled', 'expired') LIMIT 1";
    Ok(!fetch!(tx.conn(), "subscriptions", (Uuid,), sql, plan.0)?.is_empty())
}

/// Adds it. [`crate::StoreError::Taken`] of `product_id`: another one lives.
pub async fn insert(tx: &mut Tx, subscription: &Subscription) -> Result<()> {
    let sql = "INSERT INTO subscriptions (id, tenant_id, customer_id, product_id, environment, \
        product_publish_id, plan_id, plan_version, status, reason, ends_at, activated_at, \
        next_plan_id, next_plan_version, plan_changes_at, version, created_at, updated_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
    save(tx, sql, subscription, 0).await.map(drop)
}

/// Replaces it if it still is at `expected_version`. Customer, product and environment stay.
pub async fn update(tx: &mut Tx, subscription: &Subscription, expected_version: i64) -> Result<()> {
    let sql = "UPDATE subscriptions SET product_publish_id = $6, plan_id = $7, \
        plan_version = $8, status = $9, reason = $10, ends_at = $11, activated_at = $12, \
        next_plan_id = $13, next_plan_version = $14, plan_changes_at = $15, version = $16, \
        updated_at = $18 WHERE id = $1 AND tenant_id = $2 AND version = $19";
    let rows = save(tx, sql, subscription, expected_version).await?;
    matched::<Subscription>(tx, rows, subscription.id.into()).await
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
        it.activated_at.map(micros),
        it.plan_change.map(|change| change.plan_id.0),
        it.plan_change.map(|change| change.plan_version),
        it.plan_change.map(|change| micros(change.at)),
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
