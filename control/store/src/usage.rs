//! Table `usage_counters`: how often publishes were called, by hour. Agents send cumulative counts,
//! so a report that comes twice, late, or after a newer one changes nothing. No foreign keys: what
//! was used stays used when the subscription is gone.

use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use imp_core::{AgentId, ConsumerId, ProductPublishId, SubscriptionId};
use uuid::Uuid;

use crate::agent::plain;
use crate::{Result, Store, Tx};

/// What one agent counted in one hour since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What was called.
    pub product_publish_id: ProductPublishId,
    /// On which subscription; None for public publishes.
    pub subscription_id: Option<SubscriptionId>,
    /// By whom; None for public publishes.
    pub consumer_id: Option<ConsumerId>,
    /// The hour, UTC; cut to its beginning.
    pub hour: DateTime<Utc>,
    /// Served.
    pub allowed: u64,
    /// Refused by a limit.
    pub limited: u64,
}

/// The calls of one consumer to one publish in one hour, over all agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// The beginning of the hour, UTC.
    pub hour: DateTime<Utc>,
    /// What was called.
    pub product_publish_id: ProductPublishId,
    /// By whom; the nil id when the agent did not say.
    pub consumer_id: ConsumerId,
    /// Served.
    pub allowed: u64,
    /// Refused by a limit.
    pub limited: u64,
}

/// No agent serves so many calls in an hour. Without a bound, one that is out of its mind could make
/// sums overflow and take the reading of everyone's usage with it.
const MOST: u64 = 1 << 43;

/// Stores what an agent counted. `epoch` names the agent's run: counts start anew with it.
pub async fn record(tx: &mut Tx, agent: AgentId, epoch: &str, rows: &[Row]) -> Result<()> {
    let sql = "INSERT INTO usage_counters (subscription_id, hour, product_publish_id, \
        consumer_id, agent_id, epoch, allowed, limited) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
        ON CONFLICT (subscription_id, hour, product_publish_id, consumer_id, agent_id, epoch) \
        DO UPDATE SET \
            allowed = CASE WHEN excluded.allowed > usage_counters.allowed \
                THEN excluded.allowed ELSE usage_counters.allowed END, \
            limited = CASE WHEN excluded.limited > usage_counters.limited \
                THEN excluded.limited ELSE usage_counters.limited END";
    let epoch = plain(epoch);
    let mut rows: Vec<(Key, &Row)> = rows.iter().map(|row| (Key::of(row), row)).collect();
    // Two reports of one agent at the same time must not wait for each other in a circle.
    rows.sort_by_key(|(key, _)| *key);
    for (key, row) in rows {
        execute!(
            tx.conn(),
            sql,
            key.subscription,
            key.hour,
            key.publish,
            key.consumer,
            agent.0,
            &epoch,
            stored(row.allowed),
            stored(row.limited),
        )?;
    }
    Ok(())
}

/// A part of what a subscription used, newest hour first.
pub async fn totals(
    store: &Store,
    subscription: SubscriptionId,
    skip: i64,
    limit: i64,
) -> Result<Vec<Total>> {
    let sql = "SELECT hour, product_publish_id, consumer_id, \
        CAST(SUM(allowed) AS BIGINT), CAST(SUM(limited) AS BIGINT) FROM usage_counters \
        WHERE subscription_id = $1 GROUP BY hour, product_publish_id, consumer_id \
        ORDER BY hour DESC, product_publish_id, consumer_id LIMIT $2 OFFSET $3";
    type Sums = (DateTime<Utc>, Uuid, Uuid, i64, i64);
    let mut held = store.read().await?;
    let rows = fetch!(held.conn(), "usage_counters", Sums, sql, subscription.0, limit, skip)?;
    let total = |(hour, publish, consumer, allowed, limited): Sums| Total {
        hour,
        product_publish_id: publish.into(),
        consumer_id: consumer.into(),
        allowed: allowed.unsigned_abs(),
        limited: limited.unsigned_abs(),
    };
    Ok(rows.into_iter().map(total).collect())
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
            // A column of a key holds no NULL.
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
