//! The task of one stream: moves messages between the socket and the state machine.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::Shared;
use super::status::{Slot, TypeStatus};
use crate::codec::Frame;
use crate::stream::{Outcome, Response, Stream};
use crate::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use crate::{Event, Peer, Revision, TypeRules, TypeUrl};

pub(super) struct Driver {
    shared: Arc<Shared>,
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

impl Driver {
    pub(super) fn new(
        shared: Arc<Shared>,
        slot: Slot,
        headers: http::HeaderMap,
        sender: mpsc::Sender<Result<Frame, Status>>,
    ) -> Self {
        Self { shared, slot, headers, sender }
    }

    pub(super) async fn run(self, inbound: Streaming<DeltaDiscoveryRequest>) {
        let mut admitted = false;
        let end = self.serve(inbound, &mut admitted).await;
        if let Err(End::Refused(status)) = end {
            tracing::info!(stream = self.slot.stream(), code = ?status.code(), reason = status.message(), "xds stream ended");
            let _client_left = self.sender.send(Err(status)).await;
        }
        if admitted {
            self.shared.observer.event(Event::Closed { stream: self.slot.stream() });
        }
    }

    async fn serve(
        &self,
        mut inbound: Streaming<DeltaDiscoveryRequest>,
        admitted: &mut bool,
    ) -> Result<(), End> {
        let first = next(&mut inbound).await?;
        let node = first.node.clone().filter(|node| !node.id.is_empty());
        let node =
            node.ok_or_else(|| Status::invalid_argument("the first message needs node.id"))?; // R2
        let version = node.version_text();
        let peer = self.peer(&node, &version);
        let world = self.shared.admission.admit(&peer)?;
        let revoked = self.shared.admission.revoked(&peer).unwrap_or_default();
        let mut changes = world.subscribe();
        if !world.is_ready() {
            return Err(Status::unavailable("not ready; try again later").into()); // R7
        }
        *admitted = true;
        self.slot.update(|s| (s.node_id, s.node_cluster) = (node.id.clone(), node.cluster.clone()));
        self.shared.observer.event(Event::Opened { stream: self.slot.stream(), peer: &peer });
        let mut stream = Stream::new(world, &self.shared.config);
        self.take(&mut stream, first)?;
        loop {
            self.send(&mut stream).await?;
            if let Some(request) = self.wait(&mut inbound, &stream, &mut changes, &revoked).await? {
                self.take(&mut stream, request)?;
            }
        }
    }

    /// Requests before changes (R65); None: the world changed or a deadline passed.
    async fn wait(
        &self,
        inbound: &mut Streaming<DeltaDiscoveryRequest>,
        stream: &Stream,
        changes: &mut watch::Receiver<Revision>,
        revoked: &CancellationToken,
    ) -> Result<Option<DeltaDiscoveryRequest>, End> {
        let deadline = stream.deadline(Instant::now());
        let timer = async {
            match deadline {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = revoked.cancelled() => Err(Status::permission_denied("this identity was revoked").into()),
            request = next(inbound) => request.map(Some),
            changed = changes.changed() => changed.map(|()| None).map_err(|_| Status::unavailable("shutting down").into()),
            () = timer => Ok(None),
        }
    }

    fn take(&self, stream: &mut Stream, request: DeltaDiscoveryRequest) -> Result<(), End> {
        let type_url = TypeUrl::from(request.type_url.as_str());
        let Outcome { answer, held } = stream.request(request)?;
        if !held.is_empty() {
            let stream = self.slot.stream();
            let event = Event::Held { stream, type_url: &type_url, resources: &held };
            self.shared.observer.event(event);
        }
        let Some(answer) = answer else { return Ok(()) };
        let (id, type_url, resources) =
            (self.slot.stream(), &answer.type_url, &answer.resources[..]);
        let event = match &answer.refusal {
            None => {
                metrics::counter!("xds_acks_total", "type_url" => type_url.to_string())
                    .increment(1);
                Event::Acked { stream: id, type_url, resources }
            }
            Some(message) => {
                metrics::counter!("xds_nacks_total", "type_url" => type_url.to_string())
                    .increment(1);
                tracing::warn!(stream = id, %type_url, ?resources, message, "a client refused a response");
                Event::Nacked { stream: id, type_url, resources, message }
            }
        };
        self.shared.observer.event(event);
        Ok(())
    }

    async fn send(&self, stream: &mut Stream) -> Result<(), End> {
        let responses = stream.poll(Instant::now());
        let idle = responses.is_empty();
        for response in responses {
            let frame = frame(&response, &self.shared.config.types);
            let event = Event::Sent {
                stream: self.slot.stream(),
                type_url: &response.type_url,
                resources: &response.sent(),
                bytes: frame.len(),
            };
            self.shared.observer.event(event);
            metrics::counter!("xds_sent_bytes_total").increment(frame.len() as u64);
            self.sender.send(Ok(frame)).await.map_err(|_| End::Gone)?;
        }
        if idle {
            let types =
                stream.types().iter().map(TypeStatus::of).filter(|t| !t.is_idle()).collect();
            self.slot.update(|status| status.types = types);
        }
        Ok(())
    }

    fn peer<'a>(&'a self, node: &'a Node, version: &'a str) -> Peer<'a> {
        Peer {
            node_id: &node.id,
            node_cluster: &node.cluster,
            user_agent_version: version,
            headers: &self.headers,
        }
    }
}

async fn next(
    inbound: &mut Streaming<DeltaDiscoveryRequest>,
) -> Result<DeltaDiscoveryRequest, End> {
    match inbound.message().await {
        Ok(Some(request)) => Ok(request),
        Ok(None) => Err(End::Gone),
        Err(status) if status.code() == tonic::Code::InvalidArgument => Err(End::Refused(status)),
        Err(_) => Err(End::Gone),
    }
}

/// Type, nonce and removals encoded here; resources as they were encoded once.
fn frame(response: &Response, rules: &[TypeRules]) -> Frame {
    let head = DeltaDiscoveryResponse {
        type_url: response.type_url.to_string(),
        nonce: response.nonce.clone(),
        removed_resources: response.removals.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    let restamp = rules.iter().find(|r| r.type_url == response.type_url).and_then(|r| r.restamp);
    let bodies = response.upserts.iter().map(|(resource, attempt)| match restamp {
        Some(restamp) if *attempt > 0 => {
            resource.encode(&response.type_url, restamp(resource, *attempt))
        }
        _ => resource.fragment(&response.type_url),
    });
    let pieces = std::iter::once(Bytes::from(head.encode_to_vec())).chain(bodies).collect();
    Frame { pieces }
}
