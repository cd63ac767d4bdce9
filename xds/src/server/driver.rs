//! The task of one stream: moves messages between the socket and the state machine.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, Streaming};

use super::inbound::Inbound;
use super::outbound::frame;
use super::status::Slot;
use super::{Route, Shared};
use crate::codec::Frame;
use crate::stream::{Answer, Outcome, Stream};
use crate::wire::Node;
use crate::{Event, Peer, Revision, TypeUrl};

pub(super) struct Driver {
    shared: Arc<Shared>,
    route: &'static Route,
    slot: Slot,
    headers: http::HeaderMap,
    sender: mpsc::Sender<Result<Frame, Status>>,
}

/// Why a stream ends.
enum End {
    /// The client left.
    Gone,
    /// We end it.
    Refused(Status),
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

/// What may happen to an open stream besides messages and changes.
struct Limits {
    /// None: it cannot be.
    revoked: Option<CancellationToken>,
    /// When it has lived long enough.
    old: Option<Instant>,
    /// Its place among the streams that have not got everything yet, and until when it may keep it.
    syncing: Option<(OwnedSemaphorePermit, Instant)>,
}

/// A client that takes longer to get everything does not keep its place: others wait.
const SYNC_AT_MOST: Duration = Duration::from_secs(10);

/// How long the last word to a client may take.
const LAST_WORD: Duration = Duration::from_secs(1);

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        route: &'static Route,
        slot: Slot,
        headers: http::HeaderMap,
        sender: mpsc::Sender<Result<Frame, Status>>,
    ) -> Self {
        Self { shared, route, slot, headers, sender }
    }

    pub(super) async fn run<M: Inbound>(self, inbound: Streaming<M>) {
        let mut admitted = false;
        // Whatever an embedding program's callback does, the observer learns of the end.
        let served = AssertUnwindSafe(self.serve(inbound, &mut admitted)).catch_unwind().await;
        let end = served.unwrap_or_else(|_| Err(Status::internal("the stream failed").into()));
        if let Err(End::Refused(status)) = end {
            metrics::counter!("xds_ended_total", "code" => format!("{:?}", status.code()))
                .increment(1);
            tracing::info!(stream = self.slot.stream(), code = ?status.code(), reason = status.message(), "xds stream ended");
            let _client_left = self.sender.send_timeout(Err(status), LAST_WORD).await;
        }
        if admitted {
            self.shared.observer.event(Event::Closed { stream: self.slot.stream() });
        }
    }

    async fn serve<M: Inbound>(
        &self,
        mut inbound: Streaming<M>,
        admitted: &mut bool,
    ) -> Result<(), End> {
        let (first, node) = self.first_message(&mut inbound).await?;
        let version = node.version_text();
        let peer = Peer {
            node_id: &node.id,
            node_cluster: &node.cluster,
            user_agent_version: &version,
            headers: &self.headers,
        };
        let world = self.shared.admission.admit(&peer)?;
        let revoked = self.shared.admission.revoked(&peer);
        let mut changes = world.subscribe();
        if !world.is_ready() {
            return Err(Status::unavailable("not ready; try again later").into()); // R7
        }
        let syncing = self.shared.place_to_sync().await?;
        let now = Instant::now();
        let mut limits = Limits {
            revoked,
            old: self.shared.config.max_stream_age.and_then(|age| now.checked_add(spread(age))),
            syncing: Some((syncing, now + SYNC_AT_MOST)),
        };
        *admitted = true;
        self.slot.name(&node.id, &node.cluster);
        self.shared.observer.event(Event::Opened { stream: self.slot.stream(), peer: &peer });
        let mut stream = Stream::speaking(M::VARIANT, world, &self.shared.config);
        self.take(&mut stream, first)?;
        loop {
            self.send(&mut stream, &limits).await?;
            limits.note(&stream);
            let request = self.wait(&mut inbound, &stream, &mut changes, &limits).await?;
            if let Some(request) = request {
                self.take(&mut stream, request)?;
            }
            self.check(&stream, &limits)?;
        }
    }

    /// The first message, which says who it is (R2); later ones need not, and are not asked (R3).
    async fn first_message<M: Inbound>(
        &self,
        inbound: &mut Streaming<M>,
    ) -> Result<(M, Node), End> {
        let patience = self.shared.config.first_message_timeout;
        let mut first = tokio::select! {
            () = self.shared.closing.cancelled() => return Err(closing().into()),
            first = tokio::time::timeout(patience, next(inbound)) => first
                .map_err(|_| Status::deadline_exceeded("the first message did not come"))??,
        };
        let node = first.take_node().filter(|node| !node.id.is_empty());
        let node =
            node.ok_or_else(|| Status::invalid_argument("the first message needs node.id"))?;
        Ok((first, node))
    }

    /// Requests before changes (R65); None: the world changed or a deadline passed.
    async fn wait<M: Inbound>(
        &self,
        inbound: &mut Streaming<M>,
        stream: &Stream,
        changes: &mut watch::Receiver<Revision>,
        limits: &Limits,
    ) -> Result<Option<M>, End> {
        let patience = self.shared.config.ack_timeout;
        let unanswered = stream.unanswered_since().and_then(|since| since.checked_add(patience));
        let due = stream.deadline(Instant::now()).into_iter().chain(unanswered);
        let deadline = due.chain(limits.deadline()).min();
        let timer = async {
            match deadline {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = limits.revoked() => Err(revoked().into()),
            () = self.shared.closing.cancelled() => Err(closing().into()),
            request = next(inbound) => request.map(Some),
            changed = changes.changed() => changed.map(|()| None).map_err(|_| closing().into()),
            () = timer => Ok(None),
        }
    }

    fn check(&self, stream: &Stream, limits: &Limits) -> Result<(), Status> {
        let unanswered = stream.unanswered_since().map(|since| since.elapsed());
        if unanswered.is_some_and(|time| time >= self.shared.config.ack_timeout) {
            return Err(Status::deadline_exceeded("a response was not answered"));
        }
        if limits.old.is_some_and(|old| Instant::now() >= old) {
            return Err(Status::unavailable("the stream is old; open another"));
        }
        Ok(())
    }

    fn take<M: Inbound>(&self, stream: &mut Stream, mut request: M) -> Result<(), Status> {
        request.fill_type(self.route.type_url)?;
        let type_url = TypeUrl::from(request.type_url().as_str());
        let Outcome { answer, held } = request.step(stream)?;
        if !held.is_empty() {
            let stream = self.slot.stream();
            let event = Event::Held { stream, type_url: &type_url, resources: &held };
            self.shared.observer.event(event);
        }
        if let Some(answer) = answer {
            self.answered(&answer);
        }
        Ok(())
    }

    fn answered(&self, answer: &Answer) {
        let Answer { type_url, resources, sent_at, refusal } = answer;
        let (stream, label) = (self.slot.stream(), self.shared.label(type_url));
        metrics::histogram!("xds_answer_seconds").record(sent_at.elapsed());
        let event = match refusal {
            None => {
                metrics::counter!("xds_acks_total", "type_url" => label).increment(1);
                Event::Acked { stream, type_url, resources }
            }
            Some(message) => {
                metrics::counter!("xds_nacks_total", "type_url" => label).increment(1);
                let first = resources.first().map(|r| &r.name);
                tracing::warn!(stream, %type_url, of = resources.len(), ?first, message, "a client refused a response");
                Event::Nacked { stream, type_url, resources, message }
            }
        };
        self.shared.observer.event(event);
    }

    async fn send(&self, stream: &mut Stream, limits: &Limits) -> Result<(), End> {
        let now = Instant::now();
        let responses = stream.poll(now);
        self.slot.note(stream.types(), now);
        for response in responses {
            let frame = frame(self.route.variant, &response, &self.shared.config.types);
            let event = Event::Sent {
                stream: self.slot.stream(),
                type_url: &response.type_url,
                resources: &response.sent,
                bytes: frame.len(),
            };
            self.shared.observer.event(event);
            let label = self.shared.label(&response.type_url);
            metrics::counter!("xds_responses_total", "type_url" => label).increment(1);
            metrics::counter!("xds_sent_bytes_total").increment(frame.len() as u64);
            self.push(frame, limits).await?;
        }
        Ok(())
    }

    /// Waits for a client that reads slowly, but not for ever, and not when it has lost its right.
    async fn push(&self, frame: Frame, limits: &Limits) -> Result<(), End> {
        if limits.revoked.as_ref().is_some_and(CancellationToken::is_cancelled) {
            return Err(revoked().into());
        }
        // Usually there is room, and nothing to wait for.
        let frame = match self.sender.try_send(Ok(frame)) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Closed(_)) => return Err(End::Gone),
            Err(TrySendError::Full(frame)) => frame,
        };
        let patience = self.shared.config.send_timeout;
        let sent = tokio::select! {
            biased;
            () = limits.revoked() => return Err(revoked().into()),
            () = self.shared.closing.cancelled() => return Err(closing().into()),
            sent = self.sender.send_timeout(frame, patience) => sent,
        };
        sent.map_err(|error| match error {
            mpsc::error::SendTimeoutError::Closed(_) => End::Gone,
            mpsc::error::SendTimeoutError::Timeout(_) => {
                Status::deadline_exceeded("responses were not read").into()
            }
        })
    }
}

impl Limits {
    /// Returns once it has lost its right.
    async fn revoked(&self) {
        match &self.revoked {
            Some(revoked) => revoked.cancelled().await,
            None => std::future::pending().await,
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.old.into_iter().chain(self.syncing.as_ref().map(|(_, until)| *until)).min()
    }

    /// Gives up the place of a stream that has got everything, or that took too long.
    fn note(&mut self, stream: &Stream) {
        let done = stream.is_settled();
        self.syncing.take_if(|(_, until)| done || Instant::now() >= *until);
    }
}

/// Up to a tenth longer, so that streams that were opened together do not end together (R85).
fn spread(age: Duration) -> Duration {
    age.saturating_add((age / 1_000).saturating_mul(rand::random_range(0..=100)))
}

fn revoked() -> Status {
    Status::permission_denied("this identity was revoked")
}

fn closing() -> Status {
    Status::unavailable("shutting down")
}

async fn next<M: Inbound>(inbound: &mut Streaming<M>) -> Result<M, End> {
    match inbound.message().await {
        Ok(Some(request)) => Ok(request),
        Ok(None) => Err(End::Gone),
        // What tonic calls a connection that broke.
        Err(status) if matches!(status.code(), Code::Cancelled | Code::Unknown) => Err(End::Gone),
        Err(status) => Err(End::Refused(status)),
    }
}
