//! The operator's port on loopback: health, readiness, metrics and status.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use crate::fleet::{Drift, Fleet};
use crate::identity::IdentityFile;
use crate::ledger::Ledger;
use crate::link::{HeldResources, LinkState};
use crate::lkg::Lkg;
use crate::port::Address;

/// The time limit of a readiness check.
const ANSWERS_WITHIN: Duration = Duration::from_secs(1);

/// The state that the port reports.
#[derive(Clone)]
pub struct Admin {
    /// The agent's identity.
    pub file: IdentityFile,
    /// The address of the control plane.
    pub control: String,
    /// The address that Envoys connect to.
    pub xds: Address,
    /// The state of the link to the control plane.
    pub link: watch::Receiver<LinkState>,
    pub fleet: Fleet,
    /// The resources held from the control plane.
    pub held_resources: Arc<HeldResources>,
    pub lkg: Lkg,
    /// The usage counts.
    pub ledger: Ledger,
}

impl Admin {
    /// Describes what is held back, and what to do about it.
    fn shrunk(&self) -> Option<String> {
        let now = *self.held_resources.withheld().borrow();
        (now.removals > 0).then(|| {
            format!(
                "ready, but the control plane's resource set has shrunk: {} of {} gateways and publishes would go, and none goes until a person says `imp-agent accept-shrink --removals {}`",
                now.removals, now.held, now.removals
            )
        })
    }

    /// Problems that do not stop serving.
    fn what_is_wrong(&self) -> Vec<String> {
        let disk = self.lkg.failing().map(|why| {
            format!("ready, but the disk does not take the last-known-good ({why}): a restart would find an older state")
        });
        let usage = self.ledger.is_behind().then(|| {
            "ready, but calls are counted in memory only: the disk does not take them".to_owned()
        });
        let link = match *self.link.borrow() {
            LinkState::IdentityDamaged => {
                Some("ready, but identity.json cannot be read: nothing new is taken")
            }
            LinkState::ControlWentBack => Some(
                "ready, but the control plane's database went back in time: nothing of it is taken until a person says `imp-control accept-restore`",
            ),
            LinkState::Revoked => Some("ready, but the control plane does not take this agent"),
            _ => None,
        };
        disk.into_iter().chain(usage).chain(link.map(str::to_owned)).chain(self.shrunk()).collect()
    }
}

/// The body of `/accept-shrink`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct AcceptShrink {
    /// The number that `/status` reports as held back. If missing, only returns that number.
    removals: Option<usize>,
}

/// `/healthz`, `/readyz`, `/metrics`, `/status`, `/accept-shrink`, `/door`.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_text))
        .route("/status", get(status))
        .route("/accept-shrink", post(accept_shrink))
        .route("/door", post(door))
        .with_state(admin)
}

async fn ready(State(admin): State<Admin>) -> impl IntoResponse {
    if let Err(error) = reachable(&admin.xds).await {
        let why = format!("Envoys cannot come to {}: {error}\n", admin.xds);
        return (StatusCode::SERVICE_UNAVAILABLE, why);
    }
    if admin.fleet.is_open() {
        let wrong = admin.what_is_wrong();
        let words = if wrong.is_empty() { "ready".to_owned() } else { wrong.join("; ") };
        return (StatusCode::OK, format!("{words}\n"));
    }
    let link = *admin.link.borrow();
    let why = format!("nothing to serve yet: no state on disk, and the link is {link:?}\n");
    (StatusCode::SERVICE_UNAVAILABLE, why)
}

/// Requires JSON, which a web page cannot send to another site without a preflight. The number must
/// be the current one, so that the operator has seen what they accept.
async fn accept_shrink(
    State(admin): State<Admin>,
    Json(said): Json<AcceptShrink>,
) -> (StatusCode, String) {
    let now = admin.held_resources.withheld().borrow().removals;
    if now == 0 {
        return (StatusCode::CONFLICT, "nothing is held back\n".to_owned());
    }
    if said.removals != Some(now) {
        return (StatusCode::CONFLICT, format!("{}\n", admin.shrunk().unwrap_or_default()));
    }
    admin.held_resources.accept_shrink(now);
    (
        StatusCode::ACCEPTED,
        format!(
            "accepted: {now} gateways and publishes go as soon as the control plane says so once more\n"
        ),
    )
}

/// The body of `/door`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct ToldDoor {
    door: Wanted,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Wanted {
    Auto,
    ExtAuthz,
}

/// Until the agent starts again. Connected Envoys change at once; calls go on.
async fn door(State(admin): State<Admin>, Json(told): Json<ToldDoor>) -> (StatusCode, String) {
    let doors = admin.fleet.doors();
    if doors.tell(matches!(told.door, Wanted::ExtAuthz)) {
        return (StatusCode::ACCEPTED, "accepted\n".to_owned());
    }
    let why = doors.missing().unwrap_or_default();
    (StatusCode::CONFLICT, format!("there is no module: {why}\n"))
}

/// Connects each time: a socket's file can be removed while it is served.
async fn reachable(xds: &Address) -> std::io::Result<()> {
    let connected = async {
        match xds {
            Address::Unix(path) => UnixStream::connect(path).await.map(drop),
            Address::Tcp(address) => TcpStream::connect(address).await.map(drop),
        }
    };
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    tokio::time::timeout(ANSWERS_WITHIN, connected).await.map_err(late)?
}

async fn metrics_text(State(admin): State<Admin>) -> impl IntoResponse {
    let size = admin.fleet.size();
    metrics::gauge!("imp_publishes").set(size.publishes as f64);
    metrics::gauge!("imp_gateways").set(size.gateways as f64);
    metrics::gauge!("imp_envoys").set(size.nodes as f64);
    metrics::gauge!("imp_ready").set(if admin.fleet.is_open() { 1.0 } else { 0.0 });
    metrics::gauge!("imp_lkg_behind_rows").set(admin.lkg.behind() as f64);
    let text = imp_process::metrics::text();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

async fn status(State(admin): State<Admin>) -> Json<Value> {
    let identity = admin.file.load().ok().flatten();
    let identity = identity.map(|identity| {
        json!({
            "agent_id": identity.agent_id,
            "cluster_id": identity.cluster_id,
            "jwt_expires_at_ms": identity.expires_at_ms,
        })
    });
    let link = *admin.link.borrow();
    let size = admin.fleet.size();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "identity": identity,
        "ready": admin.fleet.is_open(),
        "link": { "control": admin.control, "state": link },
        "xds": admin.xds.to_string(),
        "gateways": size.gateways,
        "lkg_rows_behind": admin.lkg.behind(),
        "lkg_failing": admin.lkg.failing(),
        "withheld": *admin.held_resources.withheld().borrow(),
        "usage_in_memory_only": admin.ledger.is_behind(),
        "wrong": admin.what_is_wrong(),
        "door": {
            "told": if admin.fleet.doors().asks() { "ext-authz" } else { "auto" },
            "module": admin.fleet.doors().module().map(|module| &module.file().path),
            "missing": admin.fleet.doors().missing(),
        },
        "envoys": envoys(&admin.fleet),
        "publishes": publishes(&admin.fleet),
        "streams": streams(&admin.fleet),
        "drifts": drifts(&admin.fleet),
    }))
}

fn envoys(fleet: &Fleet) -> Value {
    let envoy = |node: imp_proto::agent::heartbeat::Node| {
        let door = fleet.doors().of(&node.id);
        json!({
            "id": node.id,
            "door": door.as_ref().map(|it| if it.is_module { "module" } else { "ext-authz" }),
            "door_reason": door.as_ref().map(|it| it.why.to_string()),
            "gateway_id": node.gateway_id,
            "version": node.envoy_version,
            "connected_at_ms": node.connected_at_ms,
        })
    };
    fleet.nodes().into_iter().map(envoy).collect()
}

/// Objects of Gateway API that somebody else has changed lately.
fn drifts(fleet: &Fleet) -> Value {
    let drift = |Drift { of, object, field, by, at_ms }: Drift| json!({ "of": of, "object": object, "field": field, "by": by, "at_ms": at_ms });
    fleet.drifts().into_iter().map(drift).collect()
}

fn publishes(fleet: &Fleet) -> Value {
    let mut statuses = fleet.statuses();
    statuses.sort_by(|a, b| a.publish_id.cmp(&b.publish_id));
    let publish = |status: imp_proto::agent::PublishStatus| {
        let error = status.error.map(|error| {
            json!({
                "code": error.code,
                "resource": error.resource,
                "envoy_message": error.envoy_message,
                "hint": error.hint,
            })
        });
        let condition = |it: imp_proto::agent::PublishCondition| json!({ "type": it.r#type, "reason": it.reason, "since_ms": it.since_ms });
        let conditions: Vec<_> = status.conditions.into_iter().map(condition).collect();
        json!({
            "id": status.publish_id,
            "revision": status.revision,
            "acked_revision": status.acked_revision,
            "nodes": {
                "acked": status.nodes_acked,
                "nacked": status.nodes_nacked,
                "behind": status.nodes_behind,
            },
            "error": error,
            "conditions": conditions,
        })
    };
    statuses.into_iter().map(publish).collect()
}

fn streams(fleet: &Fleet) -> Value {
    let of_type = |status: &imp_xds::TypeStatus| {
        json!({
            "type_url": status.type_url.as_str(),
            "sent": status.sent,
            "acked": status.acked,
            "nacked": status.nacked,
            "pending": status.pending,
            "unanswered_ms": status.unanswered_for.map(|d| u64::try_from(d.as_millis()).ok()),
            "refused": status.refused.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
        })
    };
    let stream = |status: imp_xds::StreamStatus| {
        json!({
            "stream": status.stream,
            "node": status.node_id,
            "cluster": status.node_cluster,
            "types": status.types.iter().map(of_type).collect::<Vec<_>>(),
        })
    };
    fleet.ads().status().into_iter().map(stream).collect()
}
