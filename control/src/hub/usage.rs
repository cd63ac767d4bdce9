//! Validates usage counters from the wire and drops those that the agent may not count.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use imp_core::product_publish::Environment;
use imp_core::{ClusterId, ConsumerId, ProductPublishId, SubscriptionId, TenantId};
use imp_proto::agent as pb;
use imp_store::compile::{self as table, Read, SubscriptionOwner, Which};
use imp_store::{Result, Store, usage};

use super::connected_agents::ConnectedAgents;

/// Rows per query.
const PAGE: usize = 256;

/// Counters for later hours are refused; clocks differ a little.
const AHEAD: TimeDelta = TimeDelta::hours(1);

/// Returns the counters that belong to the cluster: of its own publishes, on subscriptions of the
/// same tenant, by consumers of these subscriptions. Adds what is needed to price them: the agent
/// names the plan that calls were counted under; the rest is known here.
pub async fn admitted(
    counters: &[pb::UsageCounter],
    cluster: ClusterId,
    now: DateTime<Utc>,
    store: &Store,
    connected: &ConnectedAgents,
) -> Result<Vec<usage::Row>> {
    let read: Vec<usage::Row> = counters.iter().filter_map(|counter| row(counter, now)).collect();
    let owners = Owners::of(&read, cluster, store, connected).await?;
    let rows: Vec<usage::Row> = read.into_iter().filter_map(|row| owners.admit(row)).collect();
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
        terms: usage::Terms {
            plan_id: optional(&counter.plan_id)?,
            plan_version: i64::try_from(counter.plan_version).ok().filter(|it| *it > 0),
            product_id: optional(&counter.product_id)?,
            environment: environment(&counter.environment),
            ..usage::Terms::default()
        },
        plan_key: plan_key(counter),
    })
}

/// Identifies the plan of a counter; empty from an agent of a former release, which sends none.
fn plan_key(counter: &pb::UsageCounter) -> String {
    let pb::UsageCounter { tenant_id, plan_id, plan_version, .. } = counter;
    if tenant_id.is_empty() { String::new() } else { format!("{plan_id}@{plan_version}") }
}

fn environment(word: &str) -> Option<Environment> {
    let all = [Environment::Dev, Environment::Staging, Environment::Prod];
    all.into_iter().find(|environment| environment.as_str() == word)
}

/// `None` if the text is not empty and not an id.
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
        connected: &ConnectedAgents,
    ) -> Result<Self> {
        let mut publishes = HashMap::new();
        let mut unknown = BTreeSet::new();
        for id in rows.iter().map(|row| row.product_publish_id) {
            match connected.owner(cluster, id) {
                Some(tenant) => drop(publishes.insert(id, tenant)),
                None => drop(unknown.insert(id)),
            }
        }
        for ids in distinct(unknown).chunks(PAGE) {
            for (id, publish) in readable(table::standings(store, Which::Ids(ids)).await?) {
                if publish.spec.cluster_id == cluster {
                    connected.own(cluster, id, publish.tenant_id);
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

    /// The row with its terms; `None` if the cluster may not count it.
    fn admit(&self, mut row: usage::Row) -> Option<usage::Row> {
        let tenant = *self.publishes.get(&row.product_publish_id)?;
        row.terms.tenant_id = Some(tenant);
        let Some(subscription) = row.subscription_id else {
            (row.terms.plan_id, row.terms.plan_version) = (None, None);
            return row.consumer_id.is_none().then_some(row);
        };
        let owner = self.subscriptions.get(&subscription)?;
        // A deleted consumer was of the same subscription.
        let caller = row.consumer_id.and_then(|id| self.consumers.get(&id));
        if owner.tenant_id != tenant || caller.is_some_and(|of| *of != subscription) {
            return None;
        }
        let plan_id = row.terms.plan_id.unwrap_or(owner.plan_id);
        let now = (plan_id == owner.plan_id).then_some(owner.plan_version);
        row.terms = usage::Terms {
            tenant_id: Some(tenant),
            customer_id: Some(owner.customer_id),
            plan_id: Some(plan_id),
            plan_version: row.terms.plan_version.or(now),
            product_id: Some(owner.product_id),
            environment: Some(owner.environment),
        };
        Some(row)
    }
}

fn distinct<Id: Ord>(ids: impl IntoIterator<Item = Id>) -> Vec<Id> {
    ids.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
}

fn readable<Id, T>(rows: Vec<Read<Id, T>>) -> impl Iterator<Item = (Id, T)> {
    rows.into_iter().filter_map(|row| Some((row.id, row.content.ok()?)))
}
