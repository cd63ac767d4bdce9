//! Agents: registration, renewal of identities, revocation.

use imp_core::cluster::{Agent, AgentStatus};
use imp_core::secret::SecretHash;
use imp_core::{AgentId, Meta};
use imp_store::Writable as _;
use imp_store::outbox::Subject;
use imp_store::{agent as table, audit, registration_token};

use crate::operation::{Actor, Operation, Transaction};
use crate::refusal::Refusal;

/// The generation of the identity that registration issues.
pub const FIRST_GENERATION: i64 = 1;

/// A request for registration.
pub struct Registration<'a> {
    /// Hash of the registration token.
    pub token: SecretHash,
    /// Thumbprint of the key that the identity is bound to.
    pub key: &'a str,
    pub agent_version: String,
    pub hostname: String,
}

/// Uses up the registration token and inserts the agent in one transaction. Returns `None` if the
/// token is not valid.
pub async fn register(
    platform: &Operation,
    registration: Registration<'_>,
) -> Result<Option<Agent>, Refusal> {
    let id = AgentId::new();
    let operation = platform.by(Actor::Agent(id));
    let mut tx = Transaction::begin(&operation, operation.scope).await?;
    let now = tx.now;
    let Some(token) = registration_token::take(&mut tx, &registration.token, now).await? else {
        return Ok(None);
    };
    let agent = Agent {
        id,
        cluster_id: token.cluster_id,
        status: AgentStatus::Registered,
        agent_version: registration.agent_version,
        hostname: registration.hostname,
        last_seen_at: None,
        nodes: Vec::new(),
        duplicate_seen_at: None,
        capabilities: None,
        meta: Meta::new(now),
    };
    agent.insert(&mut tx).await?;
    table::bind_key(&mut tx, id, registration.key, FIRST_GENERATION).await?;
    tx.note(Subject::Agent(id)).await?;
    let used = format!("by agent {id}");
    tx.record("registration_tokens.use", token.id.into(), used).await?;
    let how = format!("with registration token {} in cluster {}", token.id, token.cluster_id);
    tx.finish_with("agents.register", id.into(), how).await?;
    Ok(Some(agent))
}

/// Issues an identity of this generation and invalidates the earlier ones. An agent that shows the
/// one before the newest has lost an answer, and gets the newest again.
pub async fn renew(platform: &Operation, id: AgentId, generation: i64) -> Result<(), Refusal> {
    let operation = platform.by(Actor::Agent(id));
    let mut tx = Transaction::begin(&operation, operation.scope).await?;
    let newer = table::renew(&mut tx, id, generation).await?;
    let again = if newer { "" } else { " again" };
    let how = format!("generation {generation}{again}");
    tx.finish_with(audit::RENEWAL, id.into(), how).await
}

/// Revokes the agent permanently.
pub async fn revoke(operation: &Operation, id: AgentId) -> Result<(), Refusal> {
    let mut tx = Transaction::begin(operation, operation.scope).await?;
    let now = tx.now;
    table::revoke(&mut tx, id, now).await?;
    tx.note(Subject::Agent(id)).await?;
    tx.finish_as("agents.revoke", id.into()).await
}
