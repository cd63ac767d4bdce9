//! Table `agents`. A heartbeat does not change the object's version.

use chrono::{DateTime, Utc};
use imp_core::cluster::{Agent, AgentNode, AgentStatus, Capabilities};
use imp_core::product_publish::Environment;
use imp_core::scope::TenantScope;
use imp_core::{AgentId, ClusterId, ProductId};
use sqlx::types::Json;
use uuid::Uuid;

use crate::db::Conn;
use crate::sql::{Conditions, Stored};
use crate::table::columns::columns;
use crate::table::{Reference, Table, micros, object, select};
use crate::{Result, Soon, Store, Tx};

#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    pub cluster_id: Option<ClusterId>,
}

impl From<Row> for Agent {
    fn from(row: Row) -> Self {
        // As of the last heartbeat; [`refreshed`] computes the current status.
        let seen = row.last_seen_at;
        let then = seen.unwrap_or_default();
        Self {
            id: row.id.into(),
            cluster_id: row.cluster_id.into(),
            status: AgentStatus::at(then, seen, row.revoked_at.is_some()),
            agent_version: row.agent_version,
            hostname: row.hostname,
            last_seen_at: seen,
            nodes: row.nodes.0,
            duplicate_seen_at: row.duplicate_seen_at,
            capabilities: row.capabilities.map(|said| said.0),
            meta: row.meta.into(),
        }
    }
}

/// The agent with its current status. Reading functions return the status as of the last heartbeat.
pub fn refreshed(mut agent: Agent, now: DateTime<Utc>) -> Agent {
    let revoked = agent.status == AgentStatus::Revoked;
    agent.status = AgentStatus::at(now, agent.last_seen_at, revoked);
    agent
}

object!(Agent, AgentId, AgentFilter, "agents");

columns! {
    Agent as it;
    fixed {
        id: Uuid = it.id.0,
        cluster_id: Uuid = it.cluster_id.0,
    }
    changing {
        agent_version: String = plain(&it.agent_version),
        hostname: String = plain(&it.hostname),
        last_seen_at: Option<DateTime<Utc>> = it.last_seen_at.map(micros),
        nodes: Stored<Vec<AgentNode>> = Json(it.nodes.iter().map(storable).collect::<Vec<_>>()),
    }
    read {
        revoked_at: Option<DateTime<Utc>>,
        duplicate_seen_at: Option<DateTime<Utc>>,
        capabilities: Option<Json<Capabilities>>,
    }
}

impl Table for Agent {
    fn scope(_: &TenantScope, _: &mut Conditions<'_>) {}

    fn filter<'a>(filter: &'a AgentFilter, conditions: &mut Conditions<'a>) {
        conditions.id("cluster_id =", filter.cluster_id);
    }

    fn references(&self) -> (Option<Uuid>, Vec<Reference>) {
        (None, vec![("cluster_id", "clusters", Some(self.cluster_id.0))])
    }
}

/// All agents of a cluster, revoked ones included.
pub async fn list_by_cluster(store: &Store, cluster: ClusterId) -> Result<Vec<Agent>> {
    of_cluster(store.read().await?.conn(), cluster).await
}

pub(crate) async fn of_cluster(conn: Conn<'_>, cluster: ClusterId) -> Result<Vec<Agent>> {
    let mut conditions = Conditions::default();
    conditions.id("cluster_id =", Some(cluster));
    select::<Agent>(conn, conditions, None).await
}

/// An agent and its capabilities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Able {
    pub id: AgentId,
    /// The version of the agent's program.
    pub agent_version: String,
    /// What that release supports.
    pub capabilities: Capabilities,
}

/// The agents of a cluster with a heartbeat since then that are not revoked.
pub async fn able_since(
    tx: &mut Tx,
    cluster: ClusterId,
    since: DateTime<Utc>,
) -> Result<Vec<Able>> {
    let soon = able_since_soon(tx, cluster, since).await?;
    tx.now(soon).await
}

/// Like [`able_since`], for an answer that is needed later.
pub async fn able_since_soon(
    tx: &mut Tx,
    cluster: ClusterId,
    since: DateTime<Utc>,
) -> Result<Soon<Vec<Able>>> {
    let sql = "SELECT id, agent_version, capabilities FROM agents \
        WHERE cluster_id = $1 AND last_seen_at >= $2 AND revoked_at IS NULL ORDER BY id";
    let read = |rows: Vec<AbleRow>| Ok(rows.into_iter().map(able).collect());
    soon!(tx.conn(), "agents", AbleRow, read, sql, cluster.0, micros(since))
}

/// The same for the agents of every cluster that a product is published in.
pub async fn able_of_product(
    tx: &mut Tx,
    product: ProductId,
    environment: Environment,
    since: DateTime<Utc>,
) -> Result<Vec<Able>> {
    let sql = "SELECT id, agent_version, capabilities FROM agents \
        WHERE cluster_id IN (SELECT cluster_id FROM product_publishes \
            WHERE product_id = $1 AND environment = $2) \
        AND last_seen_at >= $3 AND revoked_at IS NULL ORDER BY id";
    let word = environment.as_str();
    let rows = fetch!(tx.conn(), "agents", AbleRow, sql, product.0, word, micros(since))?;
    Ok(rows.into_iter().map(able).collect())
}

type AbleRow = (Uuid, String, Option<Json<Capabilities>>);

fn able((id, agent_version, said): AbleRow) -> Able {
    let capabilities = said.map_or_else(Capabilities::unsaid, |said| said.0);
    Able { id: id.into(), agent_version, capabilities }
}

/// The content of a heartbeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beat {
    /// The version of the agent's program.
    pub agent_version: String,
    /// The Envoys connected at that time.
    pub nodes: Vec<AgentNode>,
    /// What that release supports.
    pub capabilities: Option<Capabilities>,
}

/// Records a heartbeat. Returns false if the agent does not exist or is revoked.
pub async fn heartbeat(tx: &mut Tx, id: AgentId, beat: &Beat, now: DateTime<Utc>) -> Result<bool> {
    let sql = "UPDATE agents SET agent_version = $2, nodes = $3, capabilities = $4, \
        last_seen_at = $5 WHERE id = $1 AND revoked_at IS NULL";
    let Beat { agent_version, nodes, capabilities } = beat;
    let nodes = Json(nodes.iter().map(storable).collect::<Vec<_>>());
    let said = capabilities.as_ref().map(|said| Json(words(said)));
    let rows = execute!(tx.conn(), sql, id.0, plain(agent_version), nodes, said, micros(now))?;
    Ok(rows > 0)
}

fn words(said: &Capabilities) -> Capabilities {
    let plain = |list: &[String]| list.iter().map(|word| plain(word)).collect();
    Capabilities {
        policy_types: plain(&said.policy_types),
        auth_modes: plain(&said.auth_modes),
        gateway_classes: plain(&said.gateway_classes),
        features: plain(&said.features),
        gateway_settings: plain(&said.gateway_settings),
    }
}

/// Binds the agent's tokens to a key and records that the first token was issued.
pub async fn bind_key(tx: &mut Tx, id: AgentId, thumbprint: &str, generation: i64) -> Result<()> {
    let sql = "UPDATE agents SET key_thumbprint = $2, token_generation = $3 WHERE id = $1";
    execute!(tx.conn(), sql, id.0, thumbprint, generation).map(drop)
}

/// Records that a token of this generation is issued, which invalidates earlier ones. Returns false
/// if a newer one was issued, or the agent is gone or revoked.
pub async fn renew(tx: &mut Tx, id: AgentId, generation: i64) -> Result<bool> {
    let sql = "UPDATE agents SET token_generation = $2 \
        WHERE id = $1 AND revoked_at IS NULL AND token_generation < $2";
    Ok(execute!(tx.conn(), sql, id.0, generation)? > 0)
}

/// Records that two processes use the agent's identity.
pub async fn duplicate_seen(tx: &mut Tx, id: AgentId, now: DateTime<Utc>) -> Result<()> {
    let sql = "UPDATE agents SET duplicate_seen_at = $2 WHERE id = $1";
    execute!(tx.conn(), sql, id.0, micros(now)).map(drop)
}

/// Revokes the agent permanently. Returns false if it does not exist or was already revoked.
pub async fn revoke(tx: &mut Tx, id: AgentId, now: DateTime<Utc>) -> Result<bool> {
    let sql = "UPDATE agents SET revoked_at = $2, updated_at = $2, version = version + 1 \
        WHERE id = $1 AND revoked_at IS NULL";
    Ok(execute!(tx.conn(), sql, id.0, micros(now))? > 0)
}

/// Removes NUL, which PostgreSQL cannot store: what a node reports may be any text.
pub(crate) fn plain(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn storable(node: &AgentNode) -> AgentNode {
    AgentNode {
        id: plain(&node.id),
        gateway_id: node.gateway_id.as_deref().map(plain),
        envoy_version: plain(&node.envoy_version),
        connected_at: micros(node.connected_at),
    }
}
