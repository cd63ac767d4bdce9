//! Renews the JWT before it expires, or when the control plane refuses it.

use std::sync::Arc;
use std::time::Duration;

use imp_proto::agent::RenewRequest;
use imp_proto::method;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::register::one_line;
use super::session::Session;
use crate::backoff::Backoff;

const PATIENCE: Duration = Duration::from_secs(10);

/// A JWT that was accepted for this long does not indicate a renewal loop.
const LASTING: Duration = Duration::from_secs(60);

/// Runs until cancelled.
pub(super) async fn run(session: Arc<Session>, cancel: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(60));
    let mut renewed = None;
    loop {
        let wait = until_due(&session).min(Duration::from_secs(86_400));
        let due = tokio::select! {
            () = cancel.cancelled() => return,
            () = session.stale.notified() => true,
            // A clock can jump, so check at least once a day.
            () = tokio::time::sleep(wait) => until_due(&session).is_zero(),
        };
        if !due {
            continue;
        }
        if renewed.is_some_and(|at: Instant| at.elapsed() > LASTING) {
            backoff.reset();
        }
        match renew(&session).await {
            Ok(()) => renewed = Some(Instant::now()),
            Err(status) => {
                session.refused_renewal(&status);
                tracing::warn!(code = ?status.code(), reason = %one_line(&status), "cannot renew the JWT yet");
            }
        }
        // Also after a success: a control plane that refuses what it issues must not be called in a
        // tight loop.
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(backoff.next()) => {}
        }
    }
}

fn until_due(session: &Session) -> Duration {
    let left = session.identity().renew_at_ms() - session.now_ms();
    Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

async fn renew(session: &Session) -> Result<(), Status> {
    let request = session.request(method::RENEW, RenewRequest {})?;
    let mut client = session.client();
    let answer = tokio::time::timeout(PATIENCE, client.renew(request)).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("no answer"))??.into_inner();
    session.renewed(answer.jwt, answer.jwt_expires_at_ms, session.now_ms());
    Ok(())
}
