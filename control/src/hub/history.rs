//! Detects a database that was restored to an earlier state, by what agents have seen of it.
//!
//! With every heartbeat an agent gets a point in the history of the database; it keeps the newest
//! on disk and sends it with every call. A restored backup does not have that point. The agent is
//! then refused and keeps serving what it has, because otherwise credentials revoked since the
//! backup would work again, until the operator accepts the restored history
//! (`imp-control accept-restore`).

use http::HeaderMap;
use imp_proto::agent::History;
use imp_store::history::{self, Point};
use imp_store::{Result, Store};
use tonic::Status;

/// The header with the point that an agent has seen.
const SEEN: &str = "imp-history";

/// The header with a machine-readable reason for refusing a call.
const REASON: &str = "imp-reason";

/// Agents handle it as `LinkState::ControlWentBack`.
const WENT_BACK: &str = "control_went_back";

/// Whether the point that the agent has seen is in this database's history.
pub async fn judge(store: &Store, headers: &HeaderMap) -> std::result::Result<(), Status> {
    let Some(seen) = headers.get(SEEN) else { return Ok(()) };
    // A value that is no point comes from somewhere else or from a newer release.
    let seen = seen.to_str().ok().and_then(|text| text.parse::<Point>().ok());
    let Some(seen) = seen else { return Ok(()) };
    if history::includes(store, &seen).await.map_err(super::agent_auth::unavailable)? {
        return Ok(());
    }
    metrics::counter!("imp_history_refusals_total").increment(1);
    tracing::error!(%seen, "THE DATABASE WENT BACK: an agent has seen what is not in it. If a backup was restored, `imp-control accept-restore` lets agents take it");
    let mut status = Status::failed_precondition(
        "the control plane's database does not have what this agent has seen: a backup was \
         restored, or it is another database; a person must say `imp-control accept-restore`",
    );
    status.metadata_mut().insert(REASON, tonic::metadata::MetadataValue::from_static(WENT_BACK));
    Err(status)
}

/// The current point in the database's history, for an agent to keep.
pub async fn now(store: &Store) -> Result<Option<History>> {
    Ok(history::now(store).await?.map(|point| History { point: point.to_string() }))
}
