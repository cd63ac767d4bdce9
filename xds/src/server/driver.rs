//! The task of one stream that takes its requests and holds it to its limits. Responses go out by
//! themselves, in the [body](super::body).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tonic::Status;

use super::inbound::Inbound;
use super::limits::Limits;
use super::requests::{Read, Requests};
use super::session::Session;
use super::status::Slot;
use crate::Peer;
use crate::stream::Stream;
use crate::wire::Node;

pub(super) struct Driver<B> {
    pub(super) session: Arc<Session>,
    /// Its place among the open streams.
    pub(super) slot: Slot,
    pub(super) headers: http::HeaderMap,
    pub(super) requests: Requests<B>,
    /// Ends when nobody reads the responses any more.
    pub(super) here: oneshot::Receiver<()>,
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

impl<B> Driver<B>
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    pub(super) async fn run<M: Inbound>(mut self) {
        // Whatever an embedding program's callback does, the observer learns of the end.
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
        let shared = self.session.shared.clone();
        let (node, first, place) = self.first_message::<M>().await?;
        let version = node.version_text();
        let peer = Peer {
            node_id: &node.id,
            node_cluster: &node.cluster,
            user_agent_version: &version,
            headers: &self.headers,
        };
        let world = shared.admission.admit(&peer)?;
        let revoked = shared.admission.revoked(&peer);
        if !world.is_ready() {
            return Err(Status::unavailable("not ready; try again later").into()); // R7
        }
        let place = match place {
            Some(place) => place,
            None => shared.place_to_sync().await?,
        };
        let mut limits = Limits::new(&self.session, revoked, place);
        // Only now, and not while it waits: what the client holds is large when it is unpacked.
        let first = self.decode::<M>(first)?;
        let stream = Stream::speaking(M::VARIANT, world, &shared.config);
        self.session.open(stream, &peer, |stream| first.step(stream))?;
        loop {
            limits.note();
            if let Some(request) = self.wait(&mut limits).await? {
                let request = self.decode::<M>(request)?;
                self.session.request(|stream| request.step(stream))?;
            }
        }
    }

    /// The first message, which says who it is (R2); later ones need not, and are not asked (R3). Of a
    /// large one the rest is read when there is a place to sync: many may come at the same time.
    async fn first_message<M: Inbound>(
        &mut self,
    ) -> Result<(Node, Bytes, Option<OwnedSemaphorePermit>), End> {
        let shared = self.session.shared.clone();
        let mut place = None;
        let first = async {
            loop {
                match self.requests.next().await? {
                    Read::Message(first) => return Ok(first),
                    Read::Large => place = Some(shared.place_to_sync().await?),
                    Read::End => return Err(End::Gone),
                }
            }
        };
        let first = tokio::select! {
            () = shared.closing.cancelled() => return Err(closing().into()),
            first = tokio::time::timeout(shared.config.first_message_timeout, first) => first
                .map_err(|_| Status::deadline_exceeded("the first message did not come"))??,
        };
        let node = M::node(first.clone()).map_err(|error| malformed(&error))?;
        let node = node.filter(|node| !node.id.is_empty());
        let node =
            node.ok_or_else(|| Status::invalid_argument("the first message needs node.id"))?;
        Ok((node, first, place))
    }

    fn decode<M: Inbound>(&self, request: Bytes) -> Result<M, Status> {
        let mut request = M::decode(request).map_err(|error| malformed(&error))?;
        request.fill_type(self.session.route.type_url)?;
        Ok(request)
    }

    /// The next request; None: there is none yet, but it was time to look at the limits.
    async fn wait(&mut self, limits: &mut Limits) -> Result<Option<Bytes>, End> {
        let revoked = async {
            match &mut limits.revoked {
                Some(revoked) => revoked.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = revoked => Err(Status::permission_denied("this identity was revoked").into()),
            () = &mut limits.closing => Err(closing().into()),
            _ = &mut self.here => Err(End::Gone),
            request = self.requests.next() => match request? {
                Read::Message(request) => Ok(Some(request)),
                Read::Large => Ok(None),
                Read::End => Err(End::Gone),
            },
            () = limits.timer.as_mut() => Ok(limits.check().map(|()| None)?),
        }
    }
}

fn closing() -> Status {
    Status::unavailable("shutting down")
}

fn malformed(error: &prost::DecodeError) -> Status {
    Status::invalid_argument(format!("not a discovery request: {error}"))
}
