//! Tables `listener_ports` and `port_claims`: which gateways listen on which ports of a cluster. A
//! gateway claims its ports in a cluster while it has a publish there; several share a port when
//! their settings are the same, which the foreign key between the two tables holds.

use std::collections::BTreeSet;

use imp_core::gateway::{Gateway, GatewaySpec, Listener, ListenerSettings};
use imp_core::stored;
use imp_core::{ClusterId, GatewayId, ProductPublishId, TenantId};
use uuid::Uuid;

use crate::error::foreign_key;
use crate::{Result, Soon, StoreError, Tx, lock};

/// The address of all ports: gateways listen on every address of their node.
const EVERY_ADDRESS: &str = "*";

/// A port and its listeners' common settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub port: u16,
    /// Set by the first listener.
    pub settings: ListenerSettings,
}

impl Port {
    /// The ports that a gateway claims, in order.
    pub fn all(spec: &GatewaySpec) -> Vec<Self> {
        let port = |listener: &Listener| Self {
            port: listener.port,
            settings: spec.settings_of(listener),
        };
        let mut ports: Vec<Self> = spec.listeners.iter().map(port).collect();
        ports.sort_by_key(|it| it.port);
        ports
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    port: i64,
    settings: String,
}

impl Row {
    fn read(self) -> Result<Port> {
        let corrupt = |why: String| StoreError::Corrupt { table: "listener_ports", id: None, why };
        let port = u16::try_from(self.port).map_err(|error| corrupt(error.to_string()))?;
        let settings = stored::read(&self.settings).map_err(|error| corrupt(error.to_string()))?;
        Ok(Port { port, settings })
    }
}

/// Locks the gateway's listeners until the transaction ends; publishes can still be added.
pub async fn keep_listeners(tx: &mut Tx, gateway: GatewayId) -> Result<()> {
    lock::shared(tx, &format!("gateway {gateway}")).await
}

/// Blocks adding and removing publishes of the gateway until the transaction ends.
pub async fn keep_publishes(tx: &mut Tx, gateway: GatewayId) -> Result<()> {
    lock::alone(tx, &format!("gateway {gateway}")).await
}

/// The same for all gateways of the tenant.
pub async fn keep_publishes_of(tx: &mut Tx, tenant: TenantId) -> Result<()> {
    let sql = "SELECT id FROM gateways WHERE tenant_id = $1 ORDER BY id";
    for (id,) in fetch!(tx.conn(), "gateways", (Uuid,), sql, tenant.0)? {
        keep_publishes(tx, id.into()).await?;
    }
    Ok(())
}

/// Locks the cluster's port ranges until the transaction ends.
pub async fn keep_ranges(tx: &mut Tx, cluster: ClusterId) -> Result<()> {
    lock::shared(tx, &format!("cluster {cluster}")).await
}

/// Blocks other claims on ports of the cluster until the transaction ends.
pub async fn keep_claims(tx: &mut Tx, cluster: ClusterId) -> Result<()> {
    lock::alone(tx, &format!("cluster {cluster}")).await
}

/// The clusters in which the gateway has publishes other than this one.
pub async fn clusters_of(
    tx: &mut Tx,
    gateway: GatewayId,
    without: Option<ProductPublishId>,
) -> Result<Vec<ClusterId>> {
    let sql = "SELECT DISTINCT cluster_id FROM product_publishes \
        WHERE gateway_id = $1 AND id <> $2 ORDER BY cluster_id";
    let without = without.map_or(Uuid::nil(), Uuid::from);
    let rows = fetch!(tx.conn(), "product_publishes", (Uuid,), sql, gateway.0, without)?;
    Ok(rows.into_iter().map(|(id,)| id.into()).collect())
}

/// The ports that the gateway claims in the cluster, in order.
pub async fn claimed_by(tx: &mut Tx, gateway: GatewayId, cluster: ClusterId) -> Result<Vec<Port>> {
    let soon = claimed_by_soon(tx, gateway, cluster).await?;
    tx.now(soon).await
}

/// Like [`claimed_by`], for an answer that is needed later.
pub async fn claimed_by_soon(
    tx: &mut Tx,
    gateway: GatewayId,
    cluster: ClusterId,
) -> Result<Soon<Vec<Port>>> {
    let sql = "SELECT port, settings FROM port_claims \
        WHERE gateway_id = $1 AND cluster_id = $2 AND address = $3 ORDER BY port";
    let read = |rows: Vec<Row>| rows.into_iter().map(Row::read).collect();
    let (gateway, cluster) = (gateway.0, cluster.0);
    soon!(tx.conn(), "port_claims", Row, read, sql, gateway, cluster, EVERY_ADDRESS)
}

/// Every claimed port of the cluster.
pub async fn claimed_in(tx: &mut Tx, cluster: ClusterId) -> Result<BTreeSet<u16>> {
    let sql = "SELECT DISTINCT port, settings FROM port_claims WHERE cluster_id = $1";
    let rows = fetch!(tx.conn(), "port_claims", Row, sql, cluster.0)?;
    rows.into_iter().map(|row| row.read().map(|port| port.port)).collect()
}

/// The settings of other gateways' listeners on these ports of the cluster. The ports are locked
/// until the transaction ends, so the result stays valid.
pub async fn others_on(
    tx: &mut Tx,
    gateway: GatewayId,
    cluster: ClusterId,
    ports: &BTreeSet<u16>,
) -> Result<Vec<Port>> {
    let sql = "SELECT DISTINCT port, settings FROM port_claims WHERE cluster_id = $1 \
        AND address = $2 AND port = $3 AND gateway_id <> $4";
    let mut others = Vec::new();
    for &port in ports {
        lock::alone(tx, &format!("port {cluster} {port:05}")).await?;
    }
    for &port in ports {
        let port = i64::from(port);
        let rows =
            fetch!(tx.conn(), "port_claims", Row, sql, cluster.0, EVERY_ADDRESS, port, gateway.0)?;
        for row in rows {
            others.push(row.read()?);
        }
    }
    Ok(others)
}

/// Replaces the gateway's claims in the cluster. Returns [`StoreError::Taken`] if other listeners
/// of a port have different settings.
pub async fn replace(
    tx: &mut Tx,
    gateway: &Gateway,
    cluster: ClusterId,
    wanted: &[Port],
) -> Result<()> {
    give_up(tx, gateway.id, cluster, wanted).await?;
    for port in wanted {
        insert(tx, gateway.id, gateway.tenant_id, cluster, port).await?;
    }
    Ok(())
}

/// Releases the gateway's claims in the cluster, even if the gateway's row is corrupt.
pub async fn release(tx: &mut Tx, gateway: GatewayId, cluster: ClusterId) -> Result<()> {
    give_up(tx, gateway, cluster, &[]).await
}

async fn give_up(
    tx: &mut Tx,
    gateway: GatewayId,
    cluster: ClusterId,
    wanted: &[Port],
) -> Result<()> {
    let former = claimed_by(tx, gateway, cluster).await?;
    let ports = former.iter().chain(wanted).map(|it| it.port).collect();
    others_on(tx, gateway, cluster, &ports).await?;
    let sql = "DELETE FROM port_claims WHERE gateway_id = $1 AND cluster_id = $2";
    execute!(tx.conn(), sql, gateway.0, cluster.0)?;
    let sql = "DELETE FROM listener_ports WHERE cluster_id = $1 AND address = $2 AND port = $3 \
        AND NOT EXISTS (SELECT 1 FROM port_claims \
            WHERE cluster_id = $1 AND address = $2 AND port = $3)";
    for port in ports {
        execute!(tx.conn(), sql, cluster.0, EVERY_ADDRESS, i64::from(port))?;
    }
    Ok(())
}

async fn insert(
    tx: &mut Tx,
    gateway: GatewayId,
    tenant: TenantId,
    cluster: ClusterId,
    Port { port, settings }: &Port,
) -> Result<()> {
    let corrupt = |why: serde_json::Error| StoreError::Corrupt {
        table: "listener_ports",
        id: None,
        why: why.to_string(),
    };
    let settings = serde_json::to_string(settings).map_err(corrupt)?;
    let port = i64::from(*port);
    let sql = "INSERT INTO listener_ports (cluster_id, address, port, settings) \
        VALUES ($1, $2, $3, $4) ON CONFLICT (cluster_id, address, port) DO NOTHING";
    execute!(tx.conn(), sql, cluster.0, EVERY_ADDRESS, port, &settings)?;
    let sql = "INSERT INTO port_claims \
        (gateway_id, tenant_id, cluster_id, address, port, settings) \
        VALUES ($1, $2, $3, $4, $5, $6)";
    let done =
        execute!(tx.conn(), sql, gateway.0, tenant.0, cluster.0, EVERY_ADDRESS, port, &settings,);
    done.map(drop).map_err(|error| match foreign_key(&error) {
        Some(_) => StoreError::Taken { field: "listeners" },
        None => error,
    })
}
