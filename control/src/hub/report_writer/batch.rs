//! The content of one transaction.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use imp_core::product_publish::ProductPublish;
use imp_core::{AgentId, ClusterId, ProductPublishId};
use imp_store::agent::Beat;
use imp_store::audit::{self, Actor};
use imp_store::compile::{self as table, Which};
use imp_store::{Result, Store, agent, product_publish, usage};

use super::{Work, conditions, gateways};
use crate::hub::connected_agents::ConnectedAgents;
use crate::hub::deliveries::Deliveries;
use crate::hub::settle::settle;

/// Statuses per transaction: some milliseconds of the one writer to SQLite.
const PORTION: usize = 64;

/// Statuses that are written at once.
const AT_ONCE: usize = 16;

/// How often a publish is read again when its row changes concurrently. The concurrent change has
/// an outbox row, so the publish comes up again anyway.
const TRIES: usize = 4;

#[derive(Debug, Default)]
pub(super) struct Batch {
    /// Ordered by id, like everything here, so that transactions of replicas cannot deadlock.
    statuses: BTreeMap<ClusterId, BTreeSet<ProductPublishId>>,
    gateways: BTreeSet<ClusterId>,
    beats: Vec<(AgentId, Beat)>,
    usage: Vec<(AgentId, String, Vec<usage::Row>)>,
    duplicates: BTreeSet<AgentId>,
    audit_rows: Vec<audit::Entry>,
}

impl Batch {
    pub(super) fn of<'a>(
        items: impl IntoIterator<Item = &'a Work>,
        mut beats: Vec<(AgentId, Beat)>,
    ) -> Self {
        let mut batch = Self::default();
        for work in items {
            match work {
                Work::Statuses(cluster, ids) => {
                    batch.statuses.entry(*cluster).or_default().extend(ids);
                }
                Work::Gateways(cluster) => drop(batch.gateways.insert(*cluster)),
                Work::Beat(..) => {} // among `beats`
                Work::Duplicate(agent) => drop(batch.duplicates.insert(*agent)),
                Work::Audit(entry) => batch.audit_rows.push(entry.clone()),
                Work::Usage { agent, epoch, rows } => {
                    batch.usage.push((*agent, epoch.clone(), rows.clone()));
                }
            }
        }
        beats.sort_by_key(|(agent, _)| *agent);
        batch.usage.sort_by_key(|(agent, ..)| *agent);
        batch.beats = beats;
        batch
    }

    /// Writes statuses first, some at a time, so that others write between them: a request must not wait for
    /// those of all publishes. The rest is last and whole, because a batch that failed is written again.
    pub(super) async fn write(
        &self,
        store: &Store,
        connected: &ConnectedAgents,
        deliveries: &Deliveries,
        now: DateTime<Utc>,
    ) -> Result<()> {
        for (&cluster, ids) in &self.statuses {
            let ids: Vec<ProductPublishId> = ids.iter().copied().collect();
            for some in ids.chunks(PORTION) {
                write_statuses((cluster, some), store, connected, deliveries, now).await?;
            }
        }
        let conditions = gateways::changes(&self.gateways, store, connected).await?;
        if !self.must_last() && self.beats.is_empty() && conditions.is_empty() {
            return Ok(());
        }
        // Agents repeat heartbeats, so these need not survive a crash of the database.
        let mut tx = match self.must_last() {
            true => store.begin().await?,
            false => store.begin_unsynced().await?,
        };
        self.write_rest(&mut tx, now).await?;
        gateways::write(&mut tx, &conditions, now).await?;
        tx.commit().await
    }

    /// Whether it contains anything that agents do not repeat.
    fn must_last(&self) -> bool {
        let Self { usage, duplicates, audit_rows, .. } = self;
        !(usage.is_empty() && duplicates.is_empty() && audit_rows.is_empty())
    }

    async fn write_rest(&self, tx: &mut imp_store::Tx, now: DateTime<Utc>) -> Result<()> {
        for (agent, beat) in &self.beats {
            agent::heartbeat(tx, *agent, beat, now).await?;
        }
        for agent in &self.duplicates {
            agent::duplicate_seen(tx, *agent, now).await?;
        }
        for entry in &self.audit_rows {
            audit::append(tx, entry).await?;
        }
        for (agent, epoch, rows) in &self.usage {
            usage::record(tx, *agent, epoch, rows).await?;
        }
        Ok(())
    }
}

/// Reads the current rows, and opens a transaction only if something changes.
async fn write_statuses(
    (cluster, ids): (ClusterId, &[ProductPublishId]),
    store: &Store,
    connected: &ConnectedAgents,
    deliveries: &Deliveries,
    now: DateTime<Utc>,
) -> Result<()> {
    let mut left = ids.to_vec();
    for _ in 0..TRIES {
        let changes = changes(cluster, &left, store, connected, now).await?;
        if changes.is_empty() {
            return Ok(());
        }
        left.clear();
        // Agents repeat statuses, too.
        let mut tx = store.begin_unsynced().await?;
        for (before, after, written) in report(&mut tx, &changes).await? {
            if !written {
                left.push(before.id);
                continue;
            }
            for (entry, payload) in conditions::events(before, after, now) {
                audit::append_event(&mut tx, &entry, &payload).await?;
            }
            if before.status != after.status {
                let payload = turn_payload(before, after);
                let cause = deliveries.settled(after.id, after.status).unwrap_or_default();
                let entry = turned(before, after, cause.request_id, now);
                audit::append_event(&mut tx, &entry, &payload).await?;
            }
        }
        tx.commit().await?;
        metrics::counter!("imp_publish_statuses_written_total").increment(changes.len() as u64);
        if left.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Writes these statuses. Returns with each whether its row was still as it was read.
async fn report<'c>(
    tx: &mut imp_store::Tx,
    changes: &'c [(ProductPublish, ProductPublish)],
) -> Result<Vec<(&'c ProductPublish, &'c ProductPublish, bool)>> {
    let mut reported = Vec::with_capacity(changes.len());
    for some in changes.chunks(AT_ONCE) {
        let mut written = Vec::with_capacity(some.len());
        for (before, after) in some {
            written.push(product_publish::report_soon(tx, before, after).await?);
        }
        for ((before, after), written) in some.iter().zip(written) {
            reported.push((before, after, tx.now(written).await?));
        }
    }
    Ok(reported)
}

/// The audit row of a publish whose status the agents' reports changed. Its cause is several
/// agents, so none is named.
fn turned(
    before: &ProductPublish,
    after: &ProductPublish,
    request_id: String,
    now: DateTime<Utc>,
) -> audit::Entry {
    audit::Entry {
        at: now,
        actor: Actor::Platform,
        tenant_id: Some(before.tenant_id),
        operation: audit::REPORT.to_owned(),
        object_id: before.id.into(),
        detail: format!("{} -> {}", before.status.as_str(), after.status.as_str()),
        request_id,
    }
}

/// The payload for readers of events. Envoy's error text stays in the publish.
fn turn_payload(before: &ProductPublish, after: &ProductPublish) -> serde_json::Value {
    serde_json::json!({
        "from": before.status.as_str(),
        "to": after.status.as_str(),
        "revision": after.desired_revision,
        "acked_revision": after.acked_revision,
        "product_id": after.spec.product_id,
        "cluster_id": after.spec.cluster_id,
        "environment": after.spec.environment,
        "error_code": after.last_error.as_ref().map(|error| &error.code),
    })
}

/// The rows whose status differs from the agents' reports.
async fn changes(
    cluster: ClusterId,
    ids: &[ProductPublishId],
    store: &Store,
    connected: &ConnectedAgents,
    now: DateTime<Utc>,
) -> Result<Vec<(ProductPublish, ProductPublish)>> {
    let mut changes = Vec::new();
    let mut foreign: BTreeSet<_> = ids.iter().copied().collect();
    for row in table::standings(store, Which::Ids(ids)).await? {
        let before = match row.content {
            Ok(publish) if publish.spec.cluster_id == cluster => publish,
            Ok(_) => continue,
            Err(error) => {
                tracing::error!(publish = %row.id, %error, "its status cannot be told");
                foreign.remove(&row.id);
                continue;
            }
        };
        foreign.remove(&before.id);
        connected.own(cluster, before.id, before.tenant_id);
        let after = settle(&before, &connected.reports(cluster, before.id), now);
        if after != before {
            changes.push((before, after));
        }
    }
    if let Some(publish) = foreign.first() {
        let reports = foreign.len();
        tracing::warn!(%cluster, reports, %publish, "ignored: no publish of the cluster");
    }
    for publish in foreign {
        connected.disown(cluster, publish);
    }
    changes.sort_by_key(|(before, _)| before.id);
    Ok(changes)
}
