//! Table `agents`. A heartbeat is no change of the object: it moves no version.

use chrono::{DateTime, Utc};
use imp_core::cluster::{Agent, AgentNode, AgentStatus, Capabilities};
use imp_core::scope::TenantScope;
use imp_core::{AgentId, ClusterId};
use sqlx::types::Json;
use uuid::Uuid;

use crate::sql::{Conditions, Stored};
use crate::table::columns::columns;
use crate::table::{Reference, Table, micros, object, select};
use crate::{Result, Store, Tx};

/// Which agents to list.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Of this cluster.
    pub cluster_id: Option<ClusterId>,
}

impl From<Row> for Agent {
    fn from(row: Row) -> Self {
        // As of its last sign of life; who shows it asks the clock ([`refreshed`]).
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

/// The agent with the status that the time now gives it. What the reading functions return has the
/// status as of its last heartbeat.
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
    let mut conditions = Conditions::default();
    conditions.id("cluster_id =", Some(cluster));
    select::<Agent>(store.read().await?.conn(), conditions, None).await
}

/// An agent and what it can serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Able {
    /// Which agent.
    pub id: AgentId,
    /// Its build.
    pub agent_version: String,
    /// What that can serve.
    pub capabilities: Capabilities,
}

/// Those of a cluster that were heard of since, and are not revoked.
pub async fn able_since(
    tx: &mut Tx,
    cluster: ClusterId,
    since: DateTime<Utc>,
) -> Result<Vec<Able>> {
    type Row = (Uuid, String, Option<Json<Capabilities>>);
    let sql = "SELECT id, agent_version, capabilities FROM agents \
        WHERE cluster_id = $1 AND last_seen_at >= $2 AND revoked_at IS NULL ORDER BY id";
    let rows = fetch!(tx.conn(), "agents", Row, sql, cluster.0, micros(since))?;
    let able = |(id, agent_version, said): Row| Able {
        id: id.into(),
        agent_version,
        capabilities: said.map_or_else(Capabilities::unsaid, |said| said.0),
    };
    Ok(rows.into_iter().map(able).collect())
}

/// What an agent says of itself in a heartbeat.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Beat {
    /// Its build.
    pub agent_version: String,
    /// The Envoys connected right now.
    pub nodes: Vec<AgentNode>,
    /// What its build can serve.
    pub capabilities: Option<Capabilities>,
}

/// A sign of life. False: no such agent, or revoked.
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

/// What its tokens are bound to, and that the first one was given out.
pub async fn bind_key(tx: &mut Tx, id: AgentId, thumbprint: &str, generation: i64) -> Result<()> {
    let sql = "UPDATE agents SET key_thumbprint = $2, token_generation = $3 WHERE id = $1";
    execute!(tx.conn(), sql, id.0, thumbprint, generation).map(drop)
}

/// A token of this generation is given out; those of earlier ones are good no longer. False: a newer
/// one was, or the agent is gone or revoked.
pub async fn renew(tx: &mut Tx, id: AgentId, generation: i64) -> Result<bool> {
    let sql = "UPDATE agents SET token_generation = $2 \
        WHERE id = $1 AND revoked_at IS NULL AND token_generation < $2";
    Ok(execute!(tx.conn(), sql, id.0, generation)? > 0)
}

/// Two processes use its identity.
pub async fn duplicate_seen(tx: &mut Tx, id: AgentId, now: DateTime<Utc>) -> Result<()> {
    let sql = "UPDATE agents SET duplicate_seen_at = $2 WHERE id = $1";
    execute!(tx.conn(), sql, id.0, micros(now)).map(drop)
}

/// Shuts it out, for good. False: no such agent, or it was revoked before.
pub async fn revoke(tx: &mut Tx, id: AgentId, now: DateTime<Utc>) -> Result<bool> {
    let sql = "UPDATE agents SET revoked_at = $2, updated_at = $2, version = version + 1 \
        WHERE id = $1 AND revoked_at IS NULL";
    Ok(execute!(tx.conn(), sql, id.0, micros(now))? > 0)
}

/// PostgreSQL stores no NUL, and what a node says of itself is anyone's text.
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
