//! Table `gateway_conditions`: which gateways the agents of a cluster refuse, and why.

use chrono::{DateTime, Utc};
use imp_core::cluster::Agent;
use imp_core::gateway::GatewayCondition;
use imp_core::product_publish::PublishError;
use imp_core::{ClusterId, GatewayId};
use uuid::Uuid;

use crate::compile::{Read, Which, read};
use crate::product_publish::storable;
use crate::sql::Stored;
use crate::table::micros;
use crate::{Result, Store, Tx, agent};

const TABLE: &str = "gateway_conditions";

#[derive(sqlx::FromRow)]
struct Row {
    gateway_id: Uuid,
    cluster_id: Uuid,
    last_error: Stored<PublishError>,
    since: DateTime<Utc>,
}

impl Row {
    fn named(self) -> (GatewayId, GatewayCondition) {
        let Self { gateway_id, cluster_id, last_error, since } = self;
        let condition =
            GatewayCondition { cluster_id: cluster_id.into(), last_error: last_error.0, since };
        (gateway_id.into(), condition)
    }
}

/// The conditions of these gateways, ordered by gateway and cluster.
pub async fn of_gateways(
    store: &Store,
    gateways: &[GatewayId],
) -> Result<Vec<(GatewayId, GatewayCondition)>> {
    let select = "SELECT gateway_id AS id, gateway_id, cluster_id, last_error, since \
        FROM gateway_conditions WHERE gateway_id";
    let order = " ORDER BY gateway_id, cluster_id";
    let rows: Vec<Read<GatewayId, Row>> =
        read(store, TABLE, select, order, Which::Ids(gateways)).await?;
    rows.into_iter().map(|row| row.content.map(Row::named)).collect()
}

/// The agents of a cluster, and the condition of a gateway there.
pub async fn with_agents(
    store: &Store,
    gateway: GatewayId,
    cluster: ClusterId,
) -> Result<(Vec<Agent>, Option<GatewayCondition>)> {
    let mut held = store.read().await?;
    let sql = "SELECT gateway_id, cluster_id, last_error, since FROM gateway_conditions \
        WHERE gateway_id = $1 AND cluster_id = $2";
    let read = |rows: Vec<Row>| Ok(rows.into_iter().next().map(|row| row.named().1));
    let condition = soon!(held.conn(), TABLE, Row, read, sql, gateway.0, cluster.0)?;
    let agents = agent::of_cluster(held.conn(), cluster).await?;
    Ok((agents, held.conn().now(condition).await?))
}

/// The conditions of gateways in a cluster.
pub async fn in_cluster(
    store: &Store,
    cluster: ClusterId,
) -> Result<Vec<(GatewayId, GatewayCondition)>> {
    let sql = "SELECT gateway_id, cluster_id, last_error, since FROM gateway_conditions \
        WHERE cluster_id = $1 ORDER BY gateway_id";
    let rows = fetch!(store.read().await?.conn(), TABLE, Row, sql, cluster.0)?;
    Ok(rows.into_iter().map(Row::named).collect())
}

/// Records why a gateway is refused in a cluster, unless it has no publish there. An existing
/// condition keeps its `since`.
pub async fn refuse(
    tx: &mut Tx,
    gateway: GatewayId,
    cluster: ClusterId,
    error: &PublishError,
    now: DateTime<Utc>,
) -> Result<()> {
    let sql = "INSERT INTO gateway_conditions (gateway_id, tenant_id, cluster_id, last_error, since) \
        SELECT id, tenant_id, $2, $3, $4 FROM gateways WHERE id = $1 AND EXISTS ( \
            SELECT 1 FROM product_publishes WHERE gateway_id = $1 AND cluster_id = $2) \
        ON CONFLICT (gateway_id, cluster_id) DO UPDATE SET last_error = excluded.last_error";
    execute!(tx.conn(), sql, gateway.0, cluster.0, storable(error), micros(now)).map(drop)
}

/// Deletes the condition.
pub async fn accept(tx: &mut Tx, gateway: GatewayId, cluster: ClusterId) -> Result<()> {
    let sql = "DELETE FROM gateway_conditions WHERE gateway_id = $1 AND cluster_id = $2";
    execute!(tx.conn(), sql, gateway.0, cluster.0).map(drop)
}
