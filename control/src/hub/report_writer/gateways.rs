//! Stores which gateways agents refuse. It is a measurement, so the rows name no actor.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use imp_core::product_publish::PublishError;
use imp_core::{ClusterId, GatewayId};
use imp_store::{Result, Store, Tx, gateway_condition as table};

use crate::hub::connected_agents::ConnectedAgents;

/// A new condition of a gateway in a cluster. Without an error it is accepted.
pub(super) struct Change {
    gateway: GatewayId,
    cluster: ClusterId,
    error: Option<PublishError>,
}

/// The rows that differ from the agents' reports. While no agent reports, they stay.
pub(super) async fn changes(
    clusters: &BTreeSet<ClusterId>,
    store: &Store,
    connected: &ConnectedAgents,
) -> Result<Vec<Change>> {
    let mut changes = Vec::new();
    for &cluster in clusters {
        let Some(mut said) = connected.refused_gateways(cluster) else { continue };
        for (gateway, known) in table::in_cluster(store, cluster).await? {
            match said.all.remove(&gateway) {
                Some(error) if error == known.last_error => {}
                // It may be one of those that there was no room for.
                None if said.truncated => {}
                error => changes.push(Change { gateway, cluster, error }),
            }
        }
        let new = said.all.into_iter();
        changes.extend(new.map(|(id, error)| Change { gateway: id, cluster, error: Some(error) }));
    }
    changes.sort_by_key(|change| (change.cluster, change.gateway));
    Ok(changes)
}

pub(super) async fn write(tx: &mut Tx, changes: &[Change], now: DateTime<Utc>) -> Result<()> {
    for Change { gateway, cluster, error } in changes {
        match error {
            Some(error) => {
                tracing::warn!(%gateway, %cluster, code = error.code, words = error.envoy_message, hint = error.hint, "a gateway is refused");
                table::refuse(tx, *gateway, *cluster, error, now).await?;
            }
            None => table::accept(tx, *gateway, *cluster).await?,
        }
    }
    Ok(())
}
