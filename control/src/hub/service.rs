//! `imp.agent.v1.AgentService`.

use std::sync::Arc;

use imp_core::cluster::{Agent, AgentStatus};
use imp_core::secret::{SecretHash, SecretKind, is_well_formed};
use imp_core::{AgentId, ClusterId, Meta};
use imp_proto::agent as pb;
use imp_proto::agent::agent_service_server::AgentService;
use imp_store::outbox::{self, Subject};
use imp_store::{StoreError, agent, registration_token};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::gate::{Gate, unavailable};
use super::guard::stopping;
use super::session::{Desk, cut};

/// Answers that an agent has not read yet.
const ANSWERS: usize = 16;

/// Registrations at a time. Each takes the database's pen before it knows whether the token is any
/// good, and anyone may ask.
const REGISTRATIONS: usize = 4;

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
        let request = request.into_inner();
        if !is_well_formed(SecretKind::Registration, &request.token) {
            return Err(bad_token());
        }
        let _turn = self.turns.acquire().await.map_err(|_| stopping())?;
        let registered = self.admit(request).await.map_err(unavailable)?;
        let (agent, cluster) = registered.ok_or_else(bad_token)?;
        let issued = self.gate.issue(agent, cluster)?;
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
        let identity = self.gate.enter_to_renew(request.metadata().as_ref()).await?;
        let issued = self.gate.issue(identity.agent, identity.cluster)?;
        let jwt_expires_at_ms = issued.expires_at.timestamp_millis();
        Ok(Response::new(pb::RenewResponse { jwt: issued.jwt, jwt_expires_at_ms }))
    }

    async fn report(
        &self,
        request: Request<Streaming<pb::ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let identity = self.gate.enter(request.metadata().as_ref()).await?;
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

    /// Uses the token up and adds the agent, both or neither. None: the token is no good.
    async fn admit(
        &self,
        request: pb::RegisterRequest,
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
            meta: Meta::new(now),
        };
        agent::insert(&mut tx, &agent).await?;
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
