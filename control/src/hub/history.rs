//! A database that went back in time is noticed by agents that have seen more of it.
//!
//! An agent is told, with every sign of life, a point in the history of the database; it keeps the
//! newest on disk and shows it with every call. A backup that was restored does not have it. Then the
//! agent is told nothing: what was revoked since would be good again. It goes on serving what it has,
//! until a person says that this history counts (`imp-control accept-restore`).

use http::HeaderMap;
use imp_proto::agent::History;
use imp_store::history::{self, Point};
use imp_store::{Result, Store};
use tonic::Status;

/// The point that an agent has seen.
const SEEN: &str = "imp-history";

/// Why a call is refused, for programs.
const REASON: &str = "imp-reason";

/// For agents: see `LinkState::ControlWentBack` there.
const WENT_BACK: &str = "control_went_back";

/// Whether what the agent has seen happened here.
pub async fn judge(store: &Store, headers: &HeaderMap) -> std::result::Result<(), Status> {
    let Some(seen) = headers.get(SEEN) else { return Ok(()) };
    // What is no point was not told here, or by a newer release.
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

/// Where the database is now, for an agent to keep.
pub async fn now(store: &Store) -> Result<Option<History>> {
    Ok(history::now(store).await?.map(|point| History { point: point.to_string() }))
}
