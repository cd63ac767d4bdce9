//! Table `usage_counters`: how often publishes were called, by hour. Agents send cumulative counts,
//! so a report that is repeated, late, or older than the last one changes nothing. No foreign keys:
//! usage stays after the subscription is gone, and has all that is needed to price it.

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use imp_core::product_publish::Environment;
use imp_core::{
    AgentId, ConsumerId, CustomerId, PlanId, ProductId, ProductPublishId, SubscriptionId, TenantId,
};
use uuid::Uuid;

use crate::agent::plain;
use crate::sql::Word;
use crate::{Result, Store, Tx};

/// The counts of one agent in one hour since its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub product_publish_id: ProductPublishId,
    /// `None` for public publishes.
    pub subscription_id: Option<SubscriptionId>,
    /// `None` for public publishes.
    pub consumer_id: Option<ConsumerId>,
    /// The hour, UTC; truncated to its start.
    pub hour: DateTime<Utc>,
    /// Calls admitted, whatever the upstream answered.
    pub allowed: u64,
    /// Calls refused by a limit.
    pub limited: u64,
    /// What is needed to price it.
    pub terms: Terms,
    /// The plan that the agent counted under, as it names it; empty if it does not. Counters that
    /// differ only in this are summed.
    pub plan_key: String,
}

/// The terms under which calls were made. `None` if unknown or not applicable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    pub tenant_id: Option<TenantId>,
    pub customer_id: Option<CustomerId>,
    pub plan_id: Option<PlanId>,
    pub plan_version: Option<i64>,
    /// The product of the subscription or publish.
    pub product_id: Option<ProductId>,
    pub environment: Option<Environment>,
}

/// The calls of one consumer to one publish in one hour under the same terms, over all agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// The start of the hour, UTC.
    pub hour: DateTime<Utc>,
    pub product_publish_id: ProductPublishId,
    /// The nil id if the agent did not say.
    pub consumer_id: ConsumerId,
    /// What is needed to price it.
    pub terms: Terms,
    /// Calls admitted, whatever the upstream answered.
    pub allowed: u64,
    /// Calls refused by a limit.
    pub limited: u64,
}

/// A sanity bound on calls per hour. Without it a faulty agent could make sums overflow, which
/// would break reading everyone's usage.
const MOST: u64 = 1 << 43;

/// Stores what an agent counted. `epoch` identifies the agent's run, in which counts start from
/// zero.
pub async fn record(tx: &mut Tx, agent: AgentId, epoch: &str, rows: &[Row]) -> Result<()> {
    let epoch = plain(epoch);
    let mut rows: Vec<(Key, &Row)> = rows.iter().map(|row| (Key::of(row), row)).collect();
    // Sorted, so that two concurrent reports of one agent cannot deadlock. Counters that an agent
    // of a former release began come first: they may be in a row already.
    rows.sort_by(|(a, one), (b, other)| (a, &one.plan_key).cmp(&(b, &other.plan_key)));
    for (key, row) in rows {
        if upsert(tx, agent, &epoch, key, row).await? == 0 {
            // The row has another plan, with which the hour began.
            let epoch = format!("{epoch} {}", plain(&row.plan_key));
            upsert(tx, agent, &epoch, key, row).await?;
        }
    }
    Ok(())
}

/// Inserts a row or raises its counts. Returns 0 if the row has another plan. A row that a former
/// release of the control plane wrote has no plan yet; the first counter with a plan takes it.
async fn upsert(tx: &mut Tx, agent: AgentId, epoch: &str, key: Key, row: &Row) -> Result<u64> {
    let sql = "INSERT INTO usage_counters (subscription_id, hour, product_publish_id, \
        consumer_id, agent_id, epoch, allowed, limited, tenant_id, customer_id, plan_id, \
        plan_version, product_id, environment, plan_key) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
        ON CONFLICT (subscription_id, hour, product_publish_id, consumer_id, agent_id, epoch) \
        DO UPDATE SET \
            allowed = CASE WHEN excluded.allowed > usage_counters.allowed \
                THEN excluded.allowed ELSE usage_counters.allowed END, \
            limited = CASE WHEN excluded.limited > usage_counters.limited \
                THEN excluded.limited ELSE usage_counters.limited END, \
            tenant_id = COALESCE(usage_counters.tenant_id, excluded.tenant_id), \
            customer_id = COALESCE(usage_counters.customer_id, excluded.customer_id), \
            plan_version = CASE WHEN usage_counters.plan_id IS NULL \
                THEN excluded.plan_version ELSE usage_counters.plan_version END, \
            plan_id = COALESCE(usage_counters.plan_id, excluded.plan_id), \
            product_id = COALESCE(usage_counters.product_id, excluded.product_id), \
            environment = COALESCE(usage_counters.environment, excluded.environment), \
            plan_key = excluded.plan_key \
        WHERE usage_counters.plan_key = excluded.plan_key \
            OR (usage_counters.plan_key = '' AND usage_counters.tenant_id IS NULL)";
    let terms = &row.terms;
    execute!(
        tx.conn(),
        sql,
        key.subscription,
        key.hour,
        key.publish,
        key.consumer,
        agent.0,
        epoch,
        stored(row.allowed),
        stored(row.limited),
        terms.tenant_id.map(Uuid::from),
        terms.customer_id.map(Uuid::from),
        terms.plan_id.map(Uuid::from),
        terms.plan_version,
        terms.product_id.map(Uuid::from),
        terms.environment.map(Environment::as_str),
        plain(&row.plan_key),
    )
}

#[derive(sqlx::FromRow)]
struct Sums {
    hour: DateTime<Utc>,
    product_publish_id: Uuid,
    consumer_id: Uuid,
    tenant_id: Option<Uuid>,
    customer_id: Option<Uuid>,
    plan_id: Option<Uuid>,
    plan_version: Option<i64>,
    product_id: Option<Uuid>,
    environment: Option<Word<Environment>>,
    allowed: i64,
    limited: i64,
}

impl From<Sums> for Total {
    fn from(sums: Sums) -> Self {
        Self {
            hour: sums.hour,
            product_publish_id: sums.product_publish_id.into(),
            consumer_id: sums.consumer_id.into(),
            terms: Terms {
                tenant_id: sums.tenant_id.map(TenantId::from),
                customer_id: sums.customer_id.map(CustomerId::from),
                plan_id: sums.plan_id.map(PlanId::from),
                plan_version: sums.plan_version,
                product_id: sums.product_id.map(ProductId::from),
                environment: sums.environment.map(|Word(environment)| environment),
            },
            allowed: sums.allowed.unsigned_abs(),
            limited: sums.limited.unsigned_abs(),
        }
    }
}

/// A page of a subscription's usage, newest hour first.
pub async fn totals(
    store: &Store,
    subscription: SubscriptionId,
    skip: i64,
    limit: i64,
) -> Result<Vec<Total>> {
    // Tenant, customer, product and environment of a subscription are always the same, or unknown.
    let sql = "SELECT hour, product_publish_id, consumer_id, tenant_id, customer_id, plan_id, \
        plan_version, product_id, environment, \
        CAST(SUM(allowed) AS BIGINT) AS allowed, CAST(SUM(limited) AS BIGINT) AS limited \
        FROM usage_counters WHERE subscription_id = $1 \
        GROUP BY hour, product_publish_id, consumer_id, tenant_id, customer_id, plan_id, \
            plan_version, product_id, environment \
        ORDER BY hour DESC, product_publish_id, consumer_id, plan_id IS NULL, plan_id, \
            COALESCE(plan_version, 0), tenant_id IS NULL, customer_id IS NULL, \
            product_id IS NULL, environment IS NULL LIMIT $2 OFFSET $3";
    let mut held = store.read().await?;
    let rows = fetch!(held.conn(), "usage_counters", Sums, sql, subscription.0, limit, skip)?;
    Ok(rows.into_iter().map(Total::from).collect())
}

/// The part of the key that a row gives, in the key's order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    subscription: Uuid,
    hour: DateTime<Utc>,
    publish: Uuid,
    consumer: Uuid,
}

impl Key {
    fn of(row: &Row) -> Self {
        Self {
            // A key column cannot hold NULL.
            subscription: row.subscription_id.map_or(Uuid::nil(), Uuid::from),
            hour: row.hour.duration_trunc(TimeDelta::hours(1)).unwrap_or_default(),
            publish: row.product_publish_id.into(),
            consumer: row.consumer_id.map_or(Uuid::nil(), Uuid::from),
        }
    }
}

fn stored(count: u64) -> i64 {
    i64::try_from(count.min(MOST)).unwrap_or(i64::MAX)
}
