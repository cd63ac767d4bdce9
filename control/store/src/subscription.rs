//! Table `subscriptions`.

use chrono::{DateTime, Utc};
use imp_core::product_publish::Environment;
use imp_core::scope::TenantScope;
use imp_core::subscription::{PlanChange, Subscription, SubscriptionStatus};
use imp_core::{CustomerId, PlanId, ProductId, ProductPublishId, SubscriptionId};
use uuid::Uuid;

use crate::sql::{Conditions, Word};
use crate::table::columns::columns;
use crate::table::{Reference, Table, micros, object, tenant_and_customer};
use crate::{Result, Store, Tx, lock};

#[derive(Clone, Debug, Default)]
pub struct SubscriptionFilter {
    pub customer_id: Option<CustomerId>,
    pub product_id: Option<ProductId>,
    pub environment: Option<Environment>,
    pub product_publish_id: Option<ProductPublishId>,
    pub plan_id: Option<PlanId>,
    pub status: Option<SubscriptionStatus>,
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
            ordinal: row.ordinal,
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

object!(Subscription, SubscriptionId, SubscriptionFilter, "subscriptions");

columns! {
    Subscription as it;
    fixed {
        id: Uuid = it.id.0,
        tenant_id: Uuid = it.tenant_id.0,
        customer_id: Uuid = it.customer_id.0,
        product_id: Uuid = it.product_id.0,
        environment: Word<Environment> = it.environment.as_str(),
        ordinal: i64 = it.ordinal,
    }
    changing {
        product_publish_id: Option<Uuid> = it.product_publish_id.map(Uuid::from),
        plan_id: Uuid = it.plan_id.0,
        plan_version: i64 = it.plan_version,
        status: Word<SubscriptionStatus> = it.status.as_str(),
        reason: String = &it.reason,
        ends_at: Option<DateTime<Utc>> = it.ends_at.map(micros),
        activated_at: Option<DateTime<Utc>> = it.activated_at.map(micros),
        next_plan_id: Option<Uuid> = it.plan_change.map(|change| change.plan_id.0),
        next_plan_version: Option<i64> = it.plan_change.map(|change| change.plan_version),
        plan_changes_at: Option<DateTime<Utc>> = it.plan_change.map(|change| micros(change.at)),
    }
}
pub(crate) use selected;

impl Table for Subscription {
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

    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        let references = vec![
            ("customer_id", "customers", Some(self.customer_id.0)),
            ("product_id", "products", Some(self.product_id.0)),
            ("product_publish_id", "product_publishes", self.product_publish_id.map(Uuid::from)),
            ("plan_id", "plans", Some(self.plan_id.0)),
        ];
        (Some(self.tenant_id.0), references)
    }
}

/// A customer's living subscriptions to a product in an environment, oldest first.
pub async fn living(
    tx: &mut Tx,
    customer: CustomerId,
    product: ProductId,
    environment: Environment,
) -> Result<Vec<Subscription>> {
    let sql = concat!(
        "SELECT ",
        selected!(),
        " FROM subscriptions WHERE customer_id = $1 AND product_id = $2 AND environment = $3 \
         AND status NOT IN ('rejected', 'cancelled', 'expired') ORDER BY id"
    );
    let word = environment.as_str();
    lock::alone(tx, &format!("subscriptions {customer} {product} {word}")).await?;
    let rows = fetch!(tx.conn(), "subscriptions", Row, sql, customer.0, product.0, word)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// A batch of subscriptions whose change of plan is due.
pub async fn due(store: &Store, now: DateTime<Utc>) -> Result<Vec<Subscription>> {
    let sql = concat!(
        "SELECT ",
        selected!(),
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
