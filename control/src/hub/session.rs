//! One report stream: handles an agent's messages one at a time. A message is read only after the
//! previous one is stored, so an agent that sends too much is slowed down.

use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use imp_core::cluster::{AgentNode, Capabilities};
use imp_core::product_publish::{NodeCounts, PublishCondition, PublishError};
use imp_core::{GatewayId, ProductPublishId};
use imp_proto::agent::{self as pb, report_request::Kind};
use imp_store::Store;
use imp_store::agent::Beat;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::agent_auth::{Identity, shut_out, unavailable};
use super::connected_agents::{ConnectedAgents, RefusedGateways, Session};
use super::ending::stopping;
use super::history;
use super::report_writer::{ReportQueue, Work};
use super::settle::Reported;
use super::usage::admitted;
use crate::state::Clock;

/// An agent that reconnects within this time counts as connected throughout: its Envoys still
/// count, and the publishes of its cluster need not be written twice.
const GRACE: Duration = Duration::from_secs(2);

/// Publishes per work item, so that a long list does not block others.
const TOGETHER: usize = 256;

const MAX_NODES: usize = 4096;
const MAX_GATEWAYS: usize = 1024;
/// The most features of each kind that an agent may report.
const MAX_WORDS: usize = 256;
const MAX_TEXT: usize = 4096;
/// The most conditions of a publish, and the bytes of a name in one.
const MAX_CONDITIONS: usize = 8;
const MAX_NAME: usize = 512;

/// State shared by all sessions.
#[derive(Clone)]
pub struct ReportStreams {
    pub store: Store,
    pub clock: Clock,
    pub connected: Arc<ConnectedAgents>,
    pub queue: ReportQueue,
    /// Cancelled when the program stops.
    pub stop: CancellationToken,
}

/// The channel of answers to an agent.
pub type Answers = mpsc::Sender<Result<pb::ReportResponse, Status>>;

impl ReportStreams {
    /// Runs until the agent leaves or is revoked, or the program stops.
    pub async fn serve(
        self,
        identity: Identity,
        inbound: Streaming<pb::ReportRequest>,
        answers: Answers,
    ) {
        let session = self.connected.join(identity.cluster, identity.agent);
        let agent = identity.agent;
        tracing::info!(%agent, cluster = %identity.cluster, "an agent reports");
        let end = tokio::select! {
            biased;
            () = identity.revoked.cancelled() => Some(shut_out()),
            () = self.stop.cancelled() => Some(stopping()),
            () = session.superseded.cancelled() => {
                Some(Status::aborted("the agent opened another report stream"))
            }
            end = self.listen(&session, inbound, &answers) => end.err(),
        };
        tracing::info!(%agent, reason = end.as_ref().map_or("closed", Status::message), "an agent stopped reporting");
        if let Some(status) = end {
            // A peer that does not read its answers does not read this one either.
            let _full = answers.try_send(Err(status));
        }
        drop(answers);
        self.leave(&session, &identity).await;
    }

    /// Stops counting its Envoys, unless it reconnects at once.
    async fn leave(&self, session: &Session, identity: &Identity) {
        tokio::select! {
            // No agent left: this process is stopping.
            () = self.stop.cancelled() => return,
            () = identity.revoked.cancelled() => {}
            () = session.superseded.cancelled() => return,
            () = tokio::time::sleep(GRACE) => {}
        }
        let publishes = self.connected.leave(session);
        let _logged = self.settle(session, &publishes).await;
        let _logged = self.queue.write(Work::Gateways(session.cluster)).await;
    }

    async fn listen(
        &self,
        session: &Session,
        mut inbound: Streaming<pb::ReportRequest>,
        answers: &Answers,
    ) -> Result<(), Status> {
        let mut last_beat = None;
        let mut withholding = Withholding::default();
        while let Some(request) = inbound.message().await? {
            match request.kind {
                Some(Kind::Heartbeat(heartbeat)) => {
                    withholding.told(session, heartbeat.withheld_removals);
                    let beat = beat(heartbeat);
                    let news = last_beat.as_ref() != Some(&beat);
                    last_beat = Some(beat.clone());
                    let work = Work::Beat(session.agent, beat, news);
                    self.queue.note(work).await.map_err(|_| stopping())?;
                    self.tell_history(answers).await?;
                }
                Some(Kind::Publishes(statuses)) => self.statuses(session, statuses).await?,
                Some(Kind::Gateways(refusals)) => self.gateways(session, refusals).await?,
                Some(Kind::Usage(batch)) => self.usage(session, batch, answers).await?,
                // From a newer agent.
                None => {}
            }
        }
        Ok(())
    }

    /// Sends the current point in history; dropped if the agent does not read its answers.
    async fn tell_history(&self, answers: &Answers) -> Result<(), Status> {
        let history = history::now(&self.store).await.map_err(unavailable)?;
        let _full = answers.try_send(Ok(pb::ReportResponse { history, ..Default::default() }));
        Ok(())
    }

    async fn statuses(&self, session: &Session, said: pb::PublishStatuses) -> Result<(), Status> {
        metrics::counter!("imp_publish_statuses_total").increment(said.publishes.len() as u64);
        let reports = said.publishes.into_iter().filter_map(reported).collect();
        let news = self.connected.report(session, reports, self.clock.now());
        self.settle(session, &news).await
    }

    async fn gateways(&self, session: &Session, said: pb::GatewayRefusals) -> Result<(), Status> {
        let truncated = said.truncated || said.refusals.len() > MAX_GATEWAYS;
        let refusals = said.refusals.into_iter().take(MAX_GATEWAYS).filter_map(refused_gateway);
        let said = RefusedGateways { all: refusals.collect(), truncated };
        if !self.connected.refuses(session, said) {
            return Ok(());
        }
        let stored = self.queue.write(Work::Gateways(session.cluster)).await;
        stored.map_err(|_| Status::internal("what is refused could not be stored"))
    }

    async fn settle(&self, session: &Session, ids: &[ProductPublishId]) -> Result<(), Status> {
        for ids in ids.chunks(TOGETHER) {
            let work = Work::Statuses(session.cluster, ids.to_vec());
            let stored = self.queue.write(work).await;
            stored.map_err(|_| Status::internal("a status could not be stored"))?;
        }
        Ok(())
    }

    /// Acknowledges counters only after the commit; the agent sends the others again.
    async fn usage(
        &self,
        session: &Session,
        batch: pb::UsageBatch,
        answers: &Answers,
    ) -> Result<(), Status> {
        let pb::UsageBatch { sequence, epoch, counters } = batch;
        let (now, cluster) = (self.clock.now(), session.cluster);
        let rows = admitted(&counters, cluster, now, &self.store, &self.connected).await;
        let rows = rows.map_err(unavailable)?;
        metrics::counter!("imp_usage_counters_total").increment(rows.len() as u64);
        if !rows.is_empty() {
            let work = Work::Usage { agent: session.agent, epoch: cut(epoch, 64), rows };
            let stored = self.queue.write(work).await;
            stored.map_err(|_| Status::internal("usage could not be stored"))?;
        }
        let answer = pb::ReportResponse { usage_sequence: sequence, ..Default::default() };
        answers.send(Ok(answer)).await.map_err(|_| Status::cancelled("the agent left"))
    }
}

/// Counts agents that hold back removals, while they report.
#[derive(Default)]
struct Withholding(u32);

impl Withholding {
    fn told(&mut self, session: &Session, removals: u32) {
        let before = std::mem::replace(&mut self.0, removals);
        let gauge = metrics::gauge!("imp_agents_withholding");
        match (before, removals) {
            (0, 1..) => gauge.increment(1.0),
            (1.., 0) => gauge.decrement(1.0),
            _ => {}
        }
        if removals > 0 && removals != before {
            tracing::error!(agent = %session.agent, cluster = %session.cluster, removals, "AN AGENT HOLDS REMOVALS BACK: too much of its resource set went at once. If that is meant, say `imp-agent accept-shrink` beside it");
        }
    }
}

impl Drop for Withholding {
    fn drop(&mut self) {
        if self.0 > 0 {
            metrics::gauge!("imp_agents_withholding").decrement(1.0);
        }
    }
}

/// `None` if it does not name a gateway.
fn refused_gateway(refusal: pb::GatewayRefusal) -> Option<(GatewayId, PublishError)> {
    Some((refusal.gateway_id.parse().ok()?, error(refusal.error?)))
}

fn error(error: pb::PublishError) -> PublishError {
    PublishError {
        code: cut(error.code, 64),
        resource: cut(error.resource, MAX_TEXT),
        envoy_message: cut(error.envoy_message, MAX_TEXT),
        hint: cut(error.hint, MAX_TEXT),
    }
}

fn condition(said: pb::PublishCondition) -> PublishCondition {
    let name = |text: String| Some(cut(text, MAX_NAME)).filter(|text| !text.is_empty());
    let at = |ms: i64| DateTime::from_timestamp_millis(ms);
    PublishCondition {
        kind: cut(said.r#type, 64),
        reason: cut(said.reason, 64),
        message: cut(said.message, MAX_NAME),
        since: at(said.since_ms).unwrap_or_default(),
        object: name(said.object),
        field: name(said.field),
        by: name(said.by),
        corrected_at: at(said.corrected_at_ms).filter(|_| said.corrected_at_ms != 0),
    }
}

/// `None` if it is not a status of a publish.
fn reported(status: pb::PublishStatus) -> Option<(ProductPublishId, Reported)> {
    let id = status.publish_id.parse().ok()?;
    let reported = Reported {
        revision: i64::try_from(status.revision).ok()?,
        acked_revision: i64::try_from(status.acked_revision).ok()?,
        nodes: NodeCounts {
            acked: status.nodes_acked,
            nacked: status.nodes_nacked,
            behind: status.nodes_behind,
        },
        silent: status.nodes_silent,
        error: status.error.map(|it| Box::new(error(it))),
        conditions: status.conditions.into_iter().take(MAX_CONDITIONS).map(condition).collect(),
        quiet_since: None,
    };
    Some((id, reported))
}

fn beat(heartbeat: pb::Heartbeat) -> Beat {
    let node = |node: pb::heartbeat::Node| AgentNode {
        id: cut(node.id, 256),
        gateway_id: Some(cut(node.gateway_id, 64)).filter(|id| !id.is_empty()),
        envoy_version: cut(node.envoy_version, 64),
        connected_at: DateTime::from_timestamp_millis(node.connected_at_ms).unwrap_or_default(),
    };
    Beat {
        agent_version: cut(heartbeat.agent_version, 64),
        nodes: heartbeat.nodes.into_iter().take(MAX_NODES).map(node).collect(),
        capabilities: heartbeat.capabilities.map(capabilities),
    }
}

fn capabilities(said: pb::Capabilities) -> Capabilities {
    let words = |list: Vec<String>| {
        list.into_iter().take(MAX_WORDS).map(|word| cut(word, 64)).collect::<Vec<_>>()
    };
    Capabilities {
        policy_types: words(said.policy_types),
        auth_modes: words(said.auth_modes),
        gateway_classes: words(said.gateway_classes),
        features: words(said.features),
        gateway_settings: words(said.gateway_settings),
    }
}

/// Cuts the text to at most this many bytes, at a character boundary.
pub(super) fn cut(mut text: String, max: usize) -> String {
    text.truncate(text.floor_char_boundary(max));
    text
}
