//! The first start: a registration token becomes an identity.

use std::time::Duration;

use imp_proto::agent::RegisterRequest;
use imp_proto::agent::agent_service_client::AgentServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::LinkError;
use crate::backoff::Backoff;
use crate::config::hostname;
use crate::identity::Identity;

/// A control plane that hangs is one that is away.
const PATIENCE: Duration = Duration::from_secs(10);

/// Tries until the control plane answers.
pub(super) async fn register(
    channel: Channel,
    control: &str,
    token: &str,
) -> Result<Identity, LinkError> {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(15));
    loop {
        match once(channel.clone(), token).await {
            Ok(identity) => return Ok(identity),
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

async fn once(channel: Channel, token: &str) -> Result<Identity, Status> {
    let request = RegisterRequest {
        token: token.to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hostname: hostname(),
    };
    let mut client = AgentServiceClient::new(channel);
    let answer = tokio::time::timeout(PATIENCE, client.register(request)).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner();
    Ok(Identity {
        agent_id: answer.agent_id,
        cluster_id: answer.cluster_id,
        jwt: answer.jwt,
        issued_at_ms: chrono::Utc::now().timestamp_millis(),
        expires_at_ms: answer.jwt_expires_at_ms,
    })
}

/// It answered, and trying again will not change the answer.
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
