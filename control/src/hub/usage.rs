//! Usage counters from the wire: what is not this agent's to count is left out.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use imp_core::{ClusterId, ConsumerId, ProductPublishId, SubscriptionId, TenantId};
use imp_proto::agent as pb;
use imp_store::compile::{self as table, Read, SubscriptionOwner, Which};
use imp_store::{Result, Store, usage};

use super::board::Board;

/// Rows per query.
const PAGE: usize = 256;

/// No counter is of an hour that is yet to come; clocks differ a little.
const AHEAD: TimeDelta = TimeDelta::hours(1);

/// The counters that belong to the cluster: of its own publishes, on subscriptions of the same
/// tenant, by consumers of these subscriptions.
pub async fn admitted(
    counters: &[pb::UsageCounter],
    cluster: ClusterId,
    now: DateTime<Utc>,
    store: &Store,
    board: &Board,
) -> Result<Vec<usage::Row>> {
    let read: Vec<usage::Row> = counters.iter().filter_map(|counter| row(counter, now)).collect();
    let owners = Owners::of(&read, cluster, store, board).await?;
    let rows: Vec<usage::Row> = read.into_iter().filter(|row| owners.admit(row)).collect();
    let ignored = counters.len() - rows.len();
    if ignored > 0 {
        metrics::counter!("imp_usage_ignored_total").increment(ignored as u64);
        tracing::warn!(%cluster, ignored, "usage counters of no publish or subscription of the cluster");
    }
    Ok(rows)
}

fn row(counter: &pb::UsageCounter, now: DateTime<Utc>) -> Option<usage::Row> {
    let hour =
        DateTime::from_timestamp_millis(counter.hour_ms).filter(|hour| *hour < now + AHEAD)?;
    Some(usage::Row {
        product_publish_id: counter.publish_id.parse().ok()?,
        subscription_id: optional(&counter.subscription_id)?,
        consumer_id: optional(&counter.consumer_id)?,
        hour,
        allowed: counter.allowed,
        limited: counter.limited,
    })
}

/// None: it is there, and is no id.
fn optional<Id: std::str::FromStr>(text: &str) -> Option<Option<Id>> {
    if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) }
}

struct Owners {
    publishes: HashMap<ProductPublishId, TenantId>,
    subscriptions: HashMap<SubscriptionId, SubscriptionOwner>,
    consumers: HashMap<ConsumerId, SubscriptionId>,
}

impl Owners {
    async fn of(
        rows: &[usage::Row],
        cluster: ClusterId,
        store: &Store,
        board: &Board,
    ) -> Result<Self> {
        let mut publishes = HashMap::new();
        let mut unknown = BTreeSet::new();
        for id in rows.iter().map(|row| row.product_publish_id) {
            match board.owner(cluster, id) {
                Some(tenant) => drop(publishes.insert(id, tenant)),
                None => drop(unknown.insert(id)),
            }
        }
        for ids in distinct(unknown).chunks(PAGE) {
            for (id, publish) in readable(table::standings(store, Which::Ids(ids)).await?) {
                if publish.spec.cluster_id == cluster {
                    board.own(cluster, id, publish.tenant_id);
                    publishes.insert(id, publish.tenant_id);
                }
            }
        }
        let mut subscriptions = HashMap::new();
        for ids in distinct(rows.iter().filter_map(|row| row.subscription_id)).chunks(PAGE) {
            let owners = table::subscription_owners(store, Which::Ids(ids)).await?;
            subscriptions.extend(readable(owners));
        }
        let mut consumers = HashMap::new();
        for ids in distinct(rows.iter().filter_map(|row| row.consumer_id)).chunks(PAGE) {
            let of = table::subscriptions_of_consumers(store, Which::Ids(ids)).await?;
            consumers.extend(readable(of));
        }
        Ok(Self { publishes, subscriptions, consumers })
    }

    fn admit(&self, row: &usage::Row) -> bool {
        let Some(tenant) = self.publishes.get(&row.product_publish_id) else { return false };
        let Some(subscription) = row.subscription_id else {
            return row.consumer_id.is_none();
        };
        let paid = self.subscriptions.get(&subscription).map(|owner| owner.tenant_id);
        // A consumer that is gone was nobody else's.
        let caller = row.consumer_id.and_then(|id| self.consumers.get(&id));
        paid == Some(*tenant) && caller.is_none_or(|of| *of == subscription)
    }
}

fn distinct<Id: Ord>(ids: impl IntoIterator<Item = Id>) -> Vec<Id> {
    ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

fn readable<Id, T>(rows: Vec<Read<Id, T>>) -> impl Iterator<Item = (Id, T)> {
    rows.into_iter().filter_map(|row| Some((row.id, row.content.ok()?)))
}
