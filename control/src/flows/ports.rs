//! Which gateway listens on which port of a cluster. A gateway's first publish in a cluster claims
//! its ports there, its last one releases them.

use std::collections::{BTreeMap, BTreeSet};

use imp_core::check::Violation;
use imp_core::cluster::Cluster;
use imp_core::gateway::{Gateway, GatewaySpec};
use imp_core::product_publish::ProductPublish;
use imp_core::{ClusterId, GatewayId};
use imp_store::listener_port::{self as table, Port};
use imp_store::{Soon, gateway_condition};

use crate::flows::capabilities::refuse_unsupported_settings;
use crate::operation::Transaction;
use crate::refusal::Refusal;

/// Gateways of all tenants share these in every cluster, so no one's settings hold for them.
const COMMON_PORTS: [u16; 4] = [80, 443, 8080, 8443];

/// Refuses the platform's own ports, whatever the cluster.
pub(super) fn refuse_reserved(tx: &Transaction<'_>, spec: &GatewaySpec) -> Result<(), Refusal> {
    let reserved = &tx.operation.claims.reserved_ports;
    let ports = spec.listeners.iter().enumerate();
    let faults: Vec<Violation> = ports
        .filter(|(_, listener)| reserved.hold(listener.port))
        .map(|(index, listener)| {
            let detail = format!("port {} is the platform's own", listener.port);
            Violation { pointer: at_listener(index), code: "port_not_allowed", detail }
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.into()) }
}

/// Claims the ports for a gateway that has, or is about to get, a publish in the cluster. The
/// caller must have called [`table::keep_listeners`] before it read the gateway, so that the
/// listeners cannot change meanwhile. `claimed` are the ports that the gateway has there by now.
pub(super) async fn claim(
    tx: &mut Transaction<'_>,
    gateway: &Gateway,
    cluster: ClusterId,
    claimed: Soon<Vec<Port>>,
) -> Result<(), Refusal> {
    let at = |_: usize| "/gateway_id".to_owned();
    claim_at(tx, gateway, cluster, claimed, at, |_| "/gateway_id".to_owned()).await
}

/// Claims the ports of a gateway's new listeners wherever it has publishes.
pub(super) async fn change(tx: &mut Transaction<'_>, gateway: &Gateway) -> Result<(), Refusal> {
    refuse_reserved(tx, &gateway.spec)?;
    for cluster in table::clusters_of(tx, gateway.id, None).await? {
        refuse_unsupported_settings(tx, cluster, gateway).await?;
        let setting = |name: &str| format!("/settings/{name}");
        let claimed = table::claimed_by_soon(tx, gateway.id, cluster).await?;
        claim_at(tx, gateway, cluster, claimed, at_listener, setting).await?;
    }
    Ok(())
}

/// The ports of a cluster that a gateway shares with others. At each of them a host belongs to one
/// gateway.
pub(super) struct SharedPorts {
    gateway: GatewayId,
    cluster: ClusterId,
    /// Read when another gateway is asked for; mostly there is none.
    own: Option<BTreeSet<u16>>,
    known: BTreeMap<GatewayId, Option<u16>>,
}

impl SharedPorts {
    /// The shared ports of this gateway, whose ports are claimed.
    pub(super) fn of(gateway: GatewayId, cluster: ClusterId) -> Self {
        Self { gateway, cluster, own: None, known: BTreeMap::new() }
    }

    /// The first port that it shares with another gateway.
    pub(super) async fn with(
        &mut self,
        tx: &mut Transaction<'_>,
        other: GatewayId,
    ) -> Result<Option<u16>, Refusal> {
        if let Some(port) = self.known.get(&other) {
            return Ok(*port);
        }
        let own = match self.own.take() {
            Some(own) => own,
            None => self.ports_of(tx, self.gateway).await?,
        };
        let there = self.ports_of(tx, other).await?;
        let port = there.into_iter().find(|port| own.contains(port));
        self.own = Some(own);
        self.known.insert(other, port);
        Ok(port)
    }

    async fn ports_of(
        &self,
        tx: &mut Transaction<'_>,
        gateway: GatewayId,
    ) -> Result<BTreeSet<u16>, Refusal> {
        let claimed = table::claimed_by(tx, gateway, self.cluster).await?;
        Ok(claimed.into_iter().map(|it| it.port).collect())
    }
}

/// Releases the gateway's ports in the cluster when its last publish there goes.
pub(super) async fn release(
    tx: &mut Transaction<'_>,
    publish: &ProductPublish,
) -> Result<(), Refusal> {
    let (gateway, cluster) = (publish.spec.gateway_id, publish.spec.cluster_id);
    table::keep_publishes(tx, gateway).await?;
    let left = table::clusters_of(tx, gateway, Some(publish.id)).await?;
    if left.contains(&cluster) {
        return Ok(());
    }
    // The agents' reports about the gateway there are void too, whether or not one is connected.
    gateway_condition::accept(tx, gateway, cluster).await?;
    Ok(table::release(tx, gateway, cluster).await?)
}

/// Refuses port ranges that leave out a port in use.
pub(super) async fn refuse_to_close(
    tx: &mut Transaction<'_>,
    cluster: &Cluster,
) -> Result<(), Refusal> {
    table::keep_claims(tx, cluster.id).await?;
    for port in table::claimed_in(tx, cluster.id).await? {
        if !admits(cluster, port) {
            let detail = format!("a gateway listens on port {port}");
            return Err(Refusal::conflict("in_use", detail).at("/port_ranges"));
        }
    }
    Ok(())
}

async fn claim_at(
    tx: &mut Transaction<'_>,
    gateway: &Gateway,
    cluster: ClusterId,
    claimed: Soon<Vec<Port>>,
    pointer: impl Fn(usize) -> String,
    setting: impl Fn(&str) -> String,
) -> Result<(), Refusal> {
    let wanted = Port::all(&gateway.spec);
    if tx.now(claimed).await? == wanted {
        return Ok(());
    }
    table::keep_ranges(tx, cluster).await?;
    let cluster: Cluster = tx.get(cluster).await?;
    refuse_closed(tx, gateway, &cluster, &pointer)?;
    refuse_unusual(gateway, &cluster, setting)?;
    refuse_others(tx, gateway, &cluster, &pointer).await?;
    Ok(table::replace(tx, gateway, cluster.id, &wanted).await?)
}

/// Refuses ports that the operator does not allow in the cluster.
fn refuse_closed(
    tx: &Transaction<'_>,
    gateway: &Gateway,
    cluster: &Cluster,
    pointer: impl Fn(usize) -> String,
) -> Result<(), Refusal> {
    let reserved = &tx.operation.claims.reserved_ports;
    let listeners = gateway.spec.listeners.iter().enumerate();
    let faults: Vec<Violation> = listeners
        .filter(|(_, listener)| reserved.hold(listener.port) || !admits(cluster, listener.port))
        .map(|(index, listener)| {
            let (port, name) = (listener.port, &cluster.spec.name);
            let detail = format!("gateways may not listen on port {port} of cluster {name}");
            Violation { pointer: pointer(index), code: "port_not_allowed", detail }
        })
        .collect();
    if faults.is_empty() { Ok(()) } else { Err(faults.into()) }
}

fn admits(cluster: &Cluster, port: u16) -> bool {
    cluster.spec.port_ranges.iter().any(|range| range.holds(port))
}

/// On the ports that every tenant needs, the first one must not decide for all.
fn refuse_unusual(
    gateway: &Gateway,
    cluster: &Cluster,
    pointer: impl Fn(&str) -> String,
) -> Result<(), Refusal> {
    let mut ports = gateway.spec.listeners.iter().map(|it| it.port);
    let Some(port) = ports.find(|port| COMMON_PORTS.contains(port)) else { return Ok(()) };
    let Some(setting) = gateway.spec.settings.changed().next() else { return Ok(()) };
    let name = &cluster.spec.name;
    let detail = format!(
        "gateways that listen on port {port} of cluster {name}, which tenants share, leave {setting} as \
         it is by default; listen on another port"
    );
    Err(Refusal::conflict("default_settings_only", detail).at(pointer(setting)))
}

/// One socket serves all listeners of a port, so they agree on everything but the hostname, and the
/// agents must know how to share it. Of the others nothing is told but the setting.
async fn refuse_others(
    tx: &mut Transaction<'_>,
    gateway: &Gateway,
    cluster: &Cluster,
    pointer: impl Fn(usize) -> String,
) -> Result<(), Refusal> {
    let ports: BTreeSet<u16> = gateway.spec.listeners.iter().map(|it| it.port).collect();
    let others = table::others_on(tx, gateway.id, cluster.id, &ports).await?;
    let share = tx.operation.claims.share_ports;
    for (index, listener) in gateway.spec.listeners.iter().enumerate() {
        let same = others.iter().filter(|other| other.port == listener.port);
        let mut refusals = same.filter_map(|it| {
            match gateway.spec.settings_of(listener).difference(&it.settings) {
                Some(setting) => Some(format!("with another {setting}")),
                None => (!share).then(|| "by another gateway".to_owned()),
            }
        });
        if let Some(how) = refusals.next() {
            let (port, name) = (listener.port, &cluster.spec.name);
            let detail = format!("port {port} of cluster {name} is in use {how}");
            return Err(Refusal::conflict("port_taken", detail).at(pointer(index)));
        }
    }
    Ok(())
}

fn at_listener(index: usize) -> String {
    format!("/listeners/{index}/port")
}
