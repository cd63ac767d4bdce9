//! The report stream: statuses, Envoys and usage up, acknowledgements down.
//!
//! Statuses are current state, not a history: what changed while the stream was busy or away goes
//! once, as it is then. A new stream begins with everything.

use std::sync::Arc;
use std::time::Duration;

use imp_proto::agent as pb;
use pb::report_request::Kind;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::backoff::Backoff;
use crate::fleet::Fleet;
use crate::link::Session;
use crate::usage::Usage;

const HEARTBEAT: Duration = Duration::from_secs(10);
const USAGE: Duration = Duration::from_secs(1);

/// "On its way" may wait so long for what comes of it, usually milliseconds later: one message and
/// one transaction instead of two, and none while the change itself travels.
const LINGER: Duration = Duration::from_millis(20);

/// Statuses in one message.
const STATUSES: usize = 1_000;

/// Until cancelled.
pub(crate) async fn run(
    session: Arc<Session>,
    fleet: Fleet,
    usage: Usage,
    cancel: CancellationToken,
) {
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(10));
    loop {
        let mut identity = session.watch();
        identity.mark_unchanged();
        let mut welcome = false;
        let ended = tokio::select! {
            () = cancel.cancelled() => return,
            ended = stream(&session, &fleet, &usage, &mut welcome) => ended,
        };
        if welcome {
            backoff.reset();
        }
        let wait = backoff.next();
        match ended {
            Ok(()) => tracing::debug!("the report stream was closed"),
            Err(status) => {
                session.refused(&status);
                tracing::warn!(code = ?status.code(), reason = status.message(), ?wait, "the report stream failed");
            }
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
            // A new JWT is worth a try at once.
            _ = identity.changed() => {}
        }
    }
}

async fn stream(
    session: &Session,
    fleet: &Fleet,
    usage: &Usage,
    welcome: &mut bool,
) -> Result<(), Status> {
    let (sender, outbound) = mpsc::channel(16);
    let request = session.request(ReceiverStream::new(outbound))?;
    let mut inbound = session.client().report(request).await?.into_inner();
    *welcome = true;
    session.welcome();
    let mut statuses = fleet.news().statuses.subscribe();
    let mut nodes = fleet.news().nodes.subscribe();
    statuses.mark_changed();
    nodes.mark_changed();
    fleet.all_changed();
    usage.begin();
    let up = Up { sender };
    let mut heartbeats = tokio::time::interval(HEARTBEAT);
    let mut usages = tokio::time::interval(USAGE);
    for ticks in [&mut heartbeats, &mut usages] {
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    }
    let mut due = None;
    loop {
        tokio::select! {
            answer = next(&mut inbound) => match answer? {
                Some(answer) => {
                    if let Some(history) = &answer.history {
                        session.told_history(&history.point);
                    }
                    usage.acknowledged(answer.usage_sequence, chrono::Utc::now());
                }
                None => return Ok(()),
            },
            _ = statuses.changed() => due = Some(when(due, fleet)),
            () = reached(due) => {
                due = None;
                up.statuses(fleet).await?;
            }
            _ = nodes.changed() => up.heartbeat(fleet).await?,
            _ = heartbeats.tick() => up.heartbeat(fleet).await?,
            _ = usages.tick() => {
                for batch in usage.batches().await {
                    up.send(Kind::Usage(batch)).await?;
                }
            }
        }
    }
}

/// When the statuses go, now that some changed.
fn when(due: Option<Instant>, fleet: &Fleet) -> Instant {
    let now = Instant::now();
    if fleet.has_verdict() { now } else { due.unwrap_or(now + LINGER) }
}

async fn reached(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn next(
    inbound: &mut Streaming<pb::ReportResponse>,
) -> Result<Option<pb::ReportResponse>, Status> {
    inbound.message().await
}

struct Up {
    sender: mpsc::Sender<pb::ReportRequest>,
}

impl Up {
    async fn send(&self, kind: Kind) -> Result<(), Status> {
        let sent = self.sender.send(pb::ReportRequest { kind: Some(kind) }).await;
        sent.map_err(|_| Status::unavailable("the report stream was closed"))
    }

    async fn statuses(&self, fleet: &Fleet) -> Result<(), Status> {
        loop {
            let publishes = fleet.take_changed(STATUSES);
            let last = publishes.len() < STATUSES;
            if !publishes.is_empty() {
                self.send(Kind::Publishes(pb::PublishStatuses { publishes })).await?;
            }
            if last {
                return Ok(());
            }
        }
    }

    async fn heartbeat(&self, fleet: &Fleet) -> Result<(), Status> {
        let heartbeat = pb::Heartbeat {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            nodes: fleet.nodes(),
        };
        self.send(Kind::Heartbeat(heartbeat)).await
    }
}
