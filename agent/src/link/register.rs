//! Registration at the first start: exchanges a registration token for an identity.

use std::time::Duration;

use imp_proto::agent::RegisterRequest;
use imp_proto::agent::agent_service_client::AgentServiceClient;
use imp_proto::method;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::LinkError;
use super::prover::Prover;
use crate::backoff::Backoff;
use crate::config::hostname;
use crate::identity::{Identity, Seed};

/// The timeout of one attempt: a control plane that hangs counts as unreachable.
const PATIENCE: Duration = Duration::from_secs(10);

/// Retries until the control plane answers.
pub(super) async fn register(
    channel: Channel,
    control: &str,
    token: &str,
) -> Result<Identity, LinkError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));
    // One key for all attempts: it becomes the identity's with the one that is answered.
    let seed = Seed::random();
    let prover = Prover::new(&seed);
    loop {
        match once(channel.clone(), token, &seed, &prover).await {
            Ok(identity) => return Ok(identity),
            Err(status) if prover.learns_time(&status) => tokio::time::sleep(backoff.next()).await,
            Err(status) if refuses(&status) => {
                return Err(LinkError::TokenRefused(one_line(&status)));
            }
            Err(status) => {
                let wait = backoff.next();
                tracing::warn!(control, code = ?status.code(), reason = %one_line(&status), ?wait, "cannot register yet: the control plane does not answer");
                tokio::time::sleep(wait).await;
            }
        }
    }
}

async fn once(
    channel: Channel,
    token: &str,
    seed: &Seed,
    prover: &Prover,
) -> Result<Identity, Status> {
    let request = RegisterRequest {
        token: token.to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: hostname(),
    };
    let mut request = Request::new(request);
    *request.metadata_mut() = prover.metadata(method::REGISTER, None)?;
    let mut client = AgentServiceClient::new(channel);
    let answer = tokio::time::timeout(PATIENCE, client.register(request)).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner();
    Ok(Identity {
        agent_id: answer.agent_id,
        cluster_id: answer.cluster_id,
        jwt: answer.jwt,
        key: seed.clone(),
        issued_at_ms: prover.now_ms(),
        expires_at_ms: answer.jwt_expires_at_ms,
    })
}

/// Whether a retry would get the same answer.
fn refuses(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unauthenticated
            | Code::PermissionDenied
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
    )
}

pub(super) fn one_line(status: &Status) -> String {
    status.message().replace(['\n', '\r'], " ")
}
