//! `imp.agent.v1.AgentService`.

use std::sync::Arc;

use imp_core::cluster::Agent;
use imp_core::secret::{SecretHash, SecretKind, is_well_formed};
use imp_proto::agent as pb;
use imp_proto::agent::agent_service_server::AgentService;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::agent_auth::{AgentAuth, Identity, KeyHolder, identity, shut_out, unavailable};
use super::ending::stopping;
use super::renewals::Renewals;
use super::session::{ReportStreams, cut};
use crate::flows::agent::{self as flow, Registration};
use crate::operation::Operation;
use crate::refusal::Refusal;

/// The capacity of the channel of answers to an agent.
const ANSWERS: usize = 16;

/// Concurrent registrations. Each takes the database's write lock before it knows whether the token
/// is valid, and anyone may call.
const REGISTRATIONS: usize = 4;

pub struct Agents {
    /// The context of the agents' flows, without the actor.
    platform: Operation,
    auth: Arc<AgentAuth>,
    reports: ReportStreams,
    turns: Semaphore,
    renewals: Renewals,
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
        let registration = Registration {
            token: SecretHash::of(&request.token),
            key: &holder.key,
            agent_version: cut(request.agent_version, 64),
            hostname: cut(request.hostname, 256),
        };
        let registered = flow::register(&self.platform, registration).await.map_err(refused)?;
        let Agent { id: agent, cluster_id: cluster, .. } = registered.ok_or_else(bad_token)?;
        let issued = self.auth.issue(agent, cluster, &holder.key, flow::FIRST_GENERATION)?;
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
        self.renewals.count(identity.agent, Instant::now())?;
        let generation = self.next_generation(identity).await?;
        let Identity { agent, cluster, key, .. } = identity;
        let issued = self.auth.issue(*agent, *cluster, key, generation)?;
        let jwt_expires_at_ms = issued.expires_at.timestamp_millis();
        Ok(Response::new(pb::RenewResponse { jwt: issued.jwt, jwt_expires_at_ms }))
    }

    async fn report(
        &self,
        request: Request<Streaming<pb::ReportRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        let identity = identity(request.extensions())?.clone();
        self.auth.ready()?;
        let (answers, outbound) = mpsc::channel(ANSWERS);
        tokio::spawn(self.reports.clone().serve(identity, request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

impl Agents {
    pub fn new(platform: Operation, auth: Arc<AgentAuth>, reports: ReportStreams) -> Self {
        let turns = Semaphore::new(REGISTRATIONS);
        Self { platform, auth, reports, turns, renewals: Renewals::default() }
    }

    /// The generation that follows that of the shown token.
    async fn next_generation(&self, identity: &Identity) -> Result<i64, Status> {
        let next = identity.generation.saturating_add(1);
        flow::renew(&self.platform, identity.agent, next).await.map_err(refused)?;
        if identity.revoked.is_cancelled() { Err(shut_out()) } else { Ok(next) }
    }
}

/// Converts a refusal; only the database can refuse an agent's operation.
fn refused(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Store(error) => unavailable(error),
        other => {
            tracing::error!(error = %other, "an agent's call failed");
            Status::internal("something went wrong here; see the control plane's log")
        }
    }
}

/// The error is the same for every reason, so that it tells nothing to a guesser.
fn bad_token() -> Status {
    Status::unauthenticated(
        "the registration token is unknown, used or older than 15 minutes; create a new one",
    )
}
