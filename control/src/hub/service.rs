//! `imp.agent.v1.AgentService`.

use std::sync::Arc;

use imp_core::cluster::{Agent, AgentStatus};
use imp_core::secret::{SecretHash, SecretKind, is_well_formed};
use imp_core::{AgentId, ClusterId, Meta};
use imp_proto::agent as pb;
use imp_proto::agent::agent_service_server::AgentService;
use imp_store::audit::{self, Actor};
use imp_store::outbox::{self, Subject};
use imp_store::{StoreError, agent, registration_token};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::ending::stopping;
use super::gate::{Gate, Identity, KeyHolder, identity, shut_out, unavailable};
use super::session::{Desk, cut};

/// Answers that an agent has not read yet.
const ANSWERS: usize = 16;

/// Registrations at a time. Each takes the database's pen before it knows whether the token is any
/// good, and anyone may ask.
const REGISTRATIONS: usize = 4;

/// Generation of the token that a registration gives out.
const FIRST: i64 = 1;

/// The service.
pub struct Agents {
    gate: Arc<Gate>,
    desk: Desk,
    turns: Semaphore,
}

#[tonic::async_trait]
impl AgentService for Agents {
    type ReportStream = ReceiverStream<Result<pb::ReportResponse, Status>>;

    async fn register(
        &self,
        request: Request<pb::RegisterRequest>,
    ) -> Result<Response<pb::RegisterResponse>, Status> {
        let holder = request.extensions().get::<KeyHolder>().cloned();
        let holder = holder.ok_or_else(|| Status::unauthenticated("this call has no key"))?;
        let request = request.into_inner();
        if !is_well_formed(SecretKind::Registration, &request.token) {
            return Err(bad_token());
        }
        let _turn = self.turns.acquire().await.map_err(|_| stopping())?;
        let registered = self.admit(request, &holder).await.map_err(unavailable)?;
        let (agent, cluster) = registered.ok_or_else(bad_token)?;
        let issued = self.gate.issue(agent, cluster, &holder.key, FIRST)?;
        tracing::info!(%agent, %cluster, "an agent registered");
        Ok(Response::new(pb::RegisterResponse {
            agent_id: agent.to_string(),
            cluster_id: cluster.to_string(),
            jwt: issued.jwt,
            jwt_expires_at_ms: issued.expires_at.timestamp_millis(),
        }))
    }

    async fn renew(
        &self,
        request: Request<pb::RenewRequest>,
    ) -> Result<Response<pb::RenewResponse>, Status> {
        let identity = identity(request.extensions())?;
        let generation = self.next_generation(identity).await?;
        let Identity { agent, cluster, key, .. } = identity;
        let issued = self.gate.issue(*agent, *cluster, key, generation)?;
        let jwt_expires_at_ms = issued.expires_at.timestamp_millis();
        Ok(Response::new(pb::RenewResponse { jwt: issued.jwt, jwt_expires_at_ms }))
    }

    async fn report(
        &self,
        request: Request<Streaming<pb::ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let identity = identity(request.extensions())?.clone();
        self.gate.ready()?;
        let (answers, outbound) = mpsc::channel(ANSWERS);
        tokio::spawn(self.desk.clone().serve(identity, request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

impl Agents {
    pub fn new(gate: Arc<Gate>, desk: Desk) -> Self {
        Self { gate, desk, turns: Semaphore::new(REGISTRATIONS) }
    }

    /// Of the token that follows the one that was shown. Who shows the one before the newest has lost
    /// an answer, and gets the newest again.
    async fn next_generation(&self, identity: &Identity) -> Result<i64, Status> {
        let next = identity.generation.saturating_add(1);
        let mut tx = self.desk.store.begin().await.map_err(unavailable)?;
        let _lost_before =
            agent::renew(&mut tx, identity.agent, next).await.map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)?;
        if identity.revoked.is_cancelled() { Err(shut_out()) } else { Ok(next) }
    }

    /// Uses the token up and adds the agent, both or neither. None: the token is no good.
    async fn admit(
        &self,
        request: pb::RegisterRequest,
        holder: &KeyHolder,
    ) -> Result<Option<(AgentId, ClusterId)>, StoreError> {
        let now = self.gate.now();
        let mut tx = self.desk.store.begin().await?;
        let hash = SecretHash::of(&request.token);
        let Some(token) = registration_token::take(&mut tx, &hash, now).await? else {
            return Ok(None);
        };
        let agent = Agent {
            id: AgentId::new(),
            cluster_id: token.cluster_id,
            status: AgentStatus::Registered,
            agent_version: cut(request.agent_version, 64),
            hostname: cut(request.hostname, 256),
            last_seen_at: None,
            nodes: Vec::new(),
            duplicate_seen_at: None,
            capabilities: None,
            meta: Meta::new(now),
        };
        agent::insert(&mut tx, &agent).await?;
        agent::bind_key(&mut tx, agent.id, &holder.key, FIRST).await?;
        let entry = audit::Entry {
            at: now,
            actor: Actor::Agent(agent.id),
            tenant_id: None,
            operation: "agents.register".to_owned(),
            object_id: agent.id.into(),
            detail: format!("with registration token {} in cluster {}", token.id, token.cluster_id),
        };
        audit::append(&mut tx, &entry).await?;
        outbox::append(&mut tx, Subject::Agent(agent.id)).await?;
        tx.commit().await?;
        Ok(Some((agent.id, agent.cluster_id)))
    }
}

/// One sentence for every reason: who guesses learns nothing.
fn bad_token() -> Status {
    Status::unauthenticated(
        "the registration token is unknown, used or older than 15 minutes; create a new one",
    )
}
