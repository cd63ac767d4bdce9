//! The task of one stream that reads its requests and enforces its limits. The [body](super::body)
//! sends responses independently.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;

use super::Shared;
use super::inbound::Inbound;
use super::limits::Limits;
use super::requests::{Read, Requests};
use super::session::{End, Session};
use super::status::Slot;
use crate::Peer;
use crate::stream::Stream;

/// What the HTTP/2 request contained.
pub(super) struct Told {
    pub(super) headers: http::HeaderMap,
    pub(super) extensions: http::Extensions,
}

pub(super) struct Driver<B> {
    pub(super) session: Arc<Session>,
    /// Its slot among the open streams.
    pub(super) slot: Slot,
    pub(super) told: Told,
    pub(super) requests: Requests<B>,
    pub(super) stopped: oneshot::Receiver<End>,
}

impl<B> Driver<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    pub(super) async fn run<M: Inbound>(mut self) {
        // Even if a callback of the embedding program panics, the observer sees an end.
        let served = AssertUnwindSafe(self.serve::<M>()).catch_unwind().await;
        let end = served.unwrap_or_else(|_| Err(Status::internal("the stream failed").into()));
        let status = match end {
            Ok(()) | Err(End::Gone) => Status::ok(""),
            Err(End::Refused(status)) => {
                metrics::counter!("xds_ended_total", "code" => format!("{:?}", status.code()))
                    .increment(1);
                tracing::info!(stream = self.session.id, code = ?status.code(), reason = status.message(), "xds stream ended");
                status
            }
        };
        drop(self.slot);
        self.session.end(status);
    }

    async fn serve<M: Inbound>(&mut self) -> Result<(), End> {
        let Self { session, told, requests, stopped, .. } = self;
        let (mut limits, _watch) = tokio::select! {
            biased;
            why = stopped => return Err(why.unwrap_or(End::Gone)),
            opened = open::<M, B>(session, told, requests) => opened?,
        };
        loop {
            limits.note();
            if let Some(request) = self.wait(&mut limits).await? {
                let request = decode::<M>(&self.session, request)?;
                self.session.request(|stream| request.step(stream))?;
            }
        }
    }

    /// Waits for the next request; returns `None` when the limits should be checked first.
    async fn wait(&mut self, limits: &mut Limits) -> Result<Option<Bytes>, End> {
        tokio::select! {
            biased;
            why = &mut self.stopped => Err(why.unwrap_or(End::Gone)),
            request = self.requests.next() => match request? {
                Read::Message(request) => Ok(Some(request)),
                Read::Large => Ok(None),
                Read::End => Err(End::Gone),
            },
            () = limits.timer.as_mut() => Ok(limits.check().map(|()| None)?),
        }
    }
}

/// From the first message to a served stream: its client, its resource set, its slot.
async fn open<M: Inbound, B>(
    session: &Arc<Session>,
    Told { headers, extensions }: &Told,
    requests: &mut Requests<B>,
) -> Result<(Limits, Option<DropGuard>), End>
where
    B: http_body::Body,
    B::Data: Send,
{
    let Shared { config, admission, .. } = &*session.shared;
    let first = first_message(&session.shared, requests);
    let first = tokio::time::timeout(config.first_message_timeout, first).await;
    let (first, place) =
        first.map_err(|_| Status::deadline_exceeded("the first message did not come"))??;
    // It has the node (R2); later ones need not, and are not checked (R3).
    let node = M::node(first.clone()).map_err(|error| malformed(&error))?;
    let node = node.filter(|node| !node.id.is_empty());
    let node = node.ok_or_else(|| Status::invalid_argument("the first message needs node.id"))?;
    let (node_id, node_cluster) = (&*node.id, &*node.cluster);
    let user_agent_version = &node.version_text();
    let type_url = session.route.type_url;
    let peer = Peer { node_id, node_cluster, user_agent_version, headers, extensions, type_url };
    let set = admission.admit(&peer)?;
    let watch = admission.revoked(&peer).map(|revoked| watch(session, revoked));
    if !set.is_ready() {
        return Err(Status::unavailable("not ready; try again later").into()); // R7
    }
    let place = match place {
        Some(place) => place,
        None => session.shared.place_to_sync().await?,
    };
    // Decoded only now, not while it waits: what the client has is large once decoded.
    let first = decode::<M>(session, first)?;
    let stream = Stream::speaking(M::VARIANT, set, config)
        .serving_only(type_url)
        .with_features(&node.client_features)
        .with_attempt(admission.attempt(&peer));
    session.open(stream, &peer, |stream| first.step(stream))?;
    Ok((Limits::new(session, place), watch))
}

/// Reads the rest of a large first message when there is a slot to sync, because many may arrive at
/// the same time.
async fn first_message<B>(
    shared: &Shared,
    requests: &mut Requests<B>,
) -> Result<(Bytes, Option<OwnedSemaphorePermit>), End>
where
    B: http_body::Body,
    B::Data: Send,
{
    let mut place = None;
    loop {
        match requests.next().await? {
            Read::Message(first) => return Ok((first, place)),
            Read::Large => place = Some(shared.place_to_sync().await?),
            Read::End => return Err(End::Gone),
        }
    }
}

fn decode<M: Inbound>(session: &Session, request: Bytes) -> Result<M, Status> {
    let mut request = M::decode(request).map_err(|error| malformed(&error))?;
    request.fill_type(session.route.type_url)?;
    Ok(request)
}

/// Cuts the stream off when its identity is revoked, unless the guard is dropped before. A separate
/// task costs less than checking the token on each message.
fn watch(session: &Arc<Session>, revoked: CancellationToken) -> DropGuard {
    let session = session.clone();
    let over = CancellationToken::new();
    let guard = over.clone().drop_guard();
    tokio::spawn(async move {
        tokio::select! {
            () = revoked.cancelled() => {
                session.cut(Status::permission_denied("this identity was revoked"));
            }
            () = over.cancelled() => {}
        }
    });
    guard
}

fn malformed(error: &prost::DecodeError) -> Status {
    Status::invalid_argument(format!("not a discovery request: {error}"))
}
