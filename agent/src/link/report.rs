//! The report stream: sends statuses, Envoys and usage, receives acknowledgements.
//!
//! Statuses are the current state, not a history: what changed while the stream was busy or
//! disconnected is sent once, with its latest value. A new stream begins with everything.

use std::sync::Arc;
use std::time::Duration;

use imp_grammar::caps;
use imp_process::clock;
use imp_proto::agent as pb;
use imp_proto::method;
use pb::report_request::Kind;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::session::Session;
use super::shrink::Withheld;
use crate::backoff::Backoff;
use crate::capabilities::capabilities;
use crate::fleet::Fleet;
use crate::usage::Usage;

const HEARTBEAT: Duration = Duration::from_secs(10);
const USAGE: Duration = Duration::from_secs(1);

/// How long a status that is only progress waits for the verdict, which usually follows within
/// milliseconds: one message and one transaction instead of two, and none while the change itself
/// is sent.
const LINGER: Duration = Duration::from_millis(20);

/// Statuses per message.
const STATUSES: usize = 1_000;

/// The sources of reports.
pub(super) struct News {
    /// Has statuses and Envoys.
    pub(super) fleet: Fleet,
    /// Has the usage counts.
    pub(super) usage: Usage,
    /// What the control plane removed and the agent holds back.
    pub(super) withheld: watch::Receiver<Withheld>,
}

/// Runs until cancelled.
pub(super) async fn run(session: Arc<Session>, news: News, cancel: CancellationToken) {
    let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(10));
    loop {
        let mut identity = session.watch();
        identity.mark_unchanged();
        let mut welcome = false;
        let ended = tokio::select! {
            () = cancel.cancelled() => return,
            ended = stream(&session, &news, &mut welcome) => ended,
        };
        // Another process with our identity replaced our stream; replacing it in turn, again and
        // again, would help neither.
        let displaced = ended.as_ref().is_err_and(|status| status.code() == Code::Aborted);
        if welcome && !displaced {
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
            // A new JWT is worth an attempt at once.
            _ = identity.changed() => {}
        }
    }
}

async fn stream(session: &Session, news: &News, welcome: &mut bool) -> Result<(), Status> {
    let News { fleet, usage, .. } = news;
    let mut withheld = news.withheld.clone();
    let (sender, outbound) = mpsc::channel(16);
    let request = session.request(method::REPORT, ReceiverStream::new(outbound))?;
    let mut inbound = session.client().report(request).await?.into_inner();
    *welcome = true;
    session.welcome();
    let mut statuses = fleet.news().statuses.subscribe();
    let mut nodes = fleet.news().nodes.subscribe();
    let mut gateways = fleet.news().gateways.subscribe();
    statuses.mark_changed();
    gateways.mark_changed();
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
                    usage.acknowledged(answer.usage_sequence, clock::now());
                }
                None => return Ok(()),
            },
            _ = statuses.changed() => due = Some(when(due, fleet)),
            () = reached(due) => {
                due = None;
                up.statuses(fleet).await?;
            }
            _ = gateways.changed() => up.gateways(fleet).await?,
            _ = nodes.changed() => up.heartbeat(news).await?,
            Ok(()) = withheld.changed() => up.heartbeat(news).await?,
            _ = heartbeats.tick() => up.heartbeat(news).await?,
            _ = usages.tick() => {
                for batch in usage.batches().await {
                    up.send(Kind::Usage(batch)).await?;
                }
            }
        }
    }
}

/// When to send the changed statuses.
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
            // Whoever hears that it is active may call it.
            fleet.fed().await;
            for publishes in messages(publishes) {
                self.send(Kind::Publishes(pb::PublishStatuses { publishes })).await?;
            }
            if last {
                return Ok(());
            }
        }
    }

    async fn gateways(&self, fleet: &Fleet) -> Result<(), Status> {
        match fleet.take_refused_gateways() {
            Some(pb::GatewayRefusals { refusals, truncated }) => {
                let refusals = refusals.into_iter().map(short_refusal).collect();
                self.send(Kind::Gateways(pb::GatewayRefusals { refusals, truncated })).await
            }
            None => Ok(()),
        }
    }

    async fn heartbeat(&self, news: &News) -> Result<(), Status> {
        let withheld = news.withheld.borrow().removals;
        let heartbeat = pb::Heartbeat {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            nodes: news.fleet.nodes().into_iter().take(NODES).map(short_node).collect(),
            capabilities: Some(capabilities(
                news.fleet.has_module(),
                &news.fleet.gateway_api_classes(),
            )),
            withheld_removals: u32::try_from(withheld).unwrap_or(u32::MAX),
        };
        self.send(Kind::Heartbeat(heartbeat)).await
    }
}

/// Splits the list so that each part fits into a message: Envoy's error messages may be long, and
/// the control plane refuses messages over its cap.
fn messages(statuses: Vec<pb::PublishStatus>) -> Vec<Vec<pb::PublishStatus>> {
    let mut lists = Vec::new();
    let mut left = 0;
    for status in statuses.into_iter().map(short_status) {
        let bytes = status.encoded_len() + LENGTH;
        match lists.last_mut() {
            Some(list) if bytes <= left => Vec::push(list, status),
            _ => {
                lists.push(vec![status]);
                left = caps::HUB_REPORT_BYTES.size() / 2;
            }
        }
        left = left.saturating_sub(bytes);
    }
    lists
}

/// Tag and length of one status in its list.
const LENGTH: usize = 8;

/// The control plane keeps no more of a text.
const TEXT: usize = 4096;

/// Of a name in a condition, likewise.
const CONDITION_TEXT: usize = 512;

fn short_status(mut status: pb::PublishStatus) -> pb::PublishStatus {
    shorten(status.error.as_mut(), TEXT);
    for condition in &mut status.conditions {
        let pb::PublishCondition { object, field, by, .. } = condition;
        [object, field, by].into_iter().for_each(|text| cut(text, CONDITION_TEXT));
    }
    status
}

/// Shorter, because all of them must fit into one message.
const REFUSAL_TEXT: usize = 1024;

fn short_refusal(mut refusal: pb::GatewayRefusal) -> pb::GatewayRefusal {
    shorten(refusal.error.as_mut(), REFUSAL_TEXT);
    refusal
}

fn shorten(error: Option<&mut pb::PublishError>, most: usize) {
    if let Some(error) = error {
        for text in [&mut error.resource, &mut error.envoy_message, &mut error.hint] {
            cut(text, most);
        }
    }
}

/// As many Envoys, with the longest names, as fit into a message.
const NODES: usize = 2_000;
const NAME: usize = 256;

fn short_node(mut node: pb::heartbeat::Node) -> pb::heartbeat::Node {
    cut(&mut node.id, NAME);
    cut(&mut node.envoy_version, 64);
    node
}

fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_envoys_say_the_messages_stay_under_the_cap() {
        let words = |n: usize| pb::PublishError {
            envoy_message: "é".repeat(n * 50),
            ..pb::PublishError::default()
        };
        let status = |n: usize| pb::PublishStatus {
            publish_id: n.to_string(),
            error: n.is_multiple_of(3).then(|| words(n)),
            conditions: vec![pb::PublishCondition { by: "é".repeat(n), ..Default::default() }],
            ..pb::PublishStatus::default()
        };
        let statuses: Vec<_> = (0..1_000).map(status).collect();
        let lists = messages(statuses);
        let ids: Vec<_> = lists.iter().flatten().map(|status| status.publish_id.clone()).collect();
        assert_eq!(ids, (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>());
        assert!(lists.len() > 1);
        for publishes in lists {
            let message = pb::PublishStatuses { publishes };
            assert!(message.encoded_len() < caps::HUB_REPORT_BYTES.size());
        }
        assert!(messages(Vec::new()).is_empty());
        let long = pb::heartbeat::Node { id: "x".repeat(100_000), ..Default::default() };
        let nodes = vec![short_node(long); NODES];
        let beat = pb::Heartbeat { nodes, ..Default::default() };
        assert!(beat.encoded_len() < caps::HUB_REPORT_BYTES.size());
    }
}
