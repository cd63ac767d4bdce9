//! A minimal delta client, on a connection of its own.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use imp_xds::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Status};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;

use super::holding::{Holding, Refused, Taken};
use super::{Kind, mark, socket};

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Accepts everything.
    Good,
    /// Delays before it reads each response.
    Slow,
    /// Rejects everything.
    Refusing,
}

/// How long a slow client leaves a response unread.
pub(super) const SLOW: Duration = Duration::from_millis(300);

/// The delay before a refused client connects again.
const PATIENCE: Duration = Duration::from_millis(100);

/// What all clients received.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Bytes read from the connections.
    pub(super) bytes: Arc<AtomicU64>,
    /// Responses.
    pub(super) responses: AtomicU64,
    /// Resources that a client already had in this version.
    pub(super) duplicates: AtomicU64,
    /// Streams that were refused because the server was at its limit.
    pub(super) turned_away: AtomicU64,
}

/// State shared by all clients of a fleet.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) port: u16,
    pub(super) kind: Kind,
    pub(super) resources: usize,
    pub(super) counts: Counts,
    /// Whether delays are measured.
    pub(super) measuring: AtomicBool,
    /// Nanoseconds from a change until the last client had it, by generation.
    pub(super) last: Mutex<HashMap<u64, u64>>,
    pub(super) dialling: Semaphore,
}

/// One client, as the fleet sees it.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) manner: Manner,
    holding: Mutex<Holding>,
    refused: Mutex<Refused>,
    /// The newest generation received.
    pub(super) newest: AtomicU64,
    /// The number of resources it has.
    pub(super) held: AtomicU64,
    /// The number of responses received.
    pub(super) answers: AtomicU64,
}

impl Client {
    /// A client that is not connected yet.
    pub(super) fn new(manner: Manner, holding: Holding) -> Self {
        let held = AtomicU64::new(holding.len());
        let (newest, answers) = (AtomicU64::new(0), AtomicU64::new(0));
        let (holding, refused) = (Mutex::new(holding), Mutex::default());
        Self { manner, holding, refused, newest, held, answers }
    }

    pub(super) fn holding(&self) -> MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects, and follows the server until the stream ends.
    pub(super) async fn follow(&self, common: &Common) -> Result<()> {
        let permit = common.dialling.acquire().await?;
        let channel = socket::connect(common.port, common.counts.bytes.clone()).await?;
        drop(permit);
        loop {
            let ended = self.stream(channel.clone(), common).await;
            // Like Envoy; a server may limit how many connect at once.
            let full = |status: &tonic::Status| status.code() == Code::ResourceExhausted;
            let full = ended.as_ref().is_err_and(|e| e.downcast_ref().is_some_and(full));
            if !full || self.answers.load(Ordering::Acquire) > 0 {
                return ended;
            }
            common.counts.turned_away.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PATIENCE).await;
        }
    }

    async fn stream(&self, channel: Channel, common: &Common) -> Result<()> {
        let (requests, outbound) = mpsc::channel(4);
        requests.send(self.first(common)).await?;
        let codec: ProstCodec<DeltaDiscoveryRequest, DeltaDiscoveryResponse> =
            ProstCodec::default();
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(256 << 20);
        grpc.ready().await?;
        let path = http::uri::PathAndQuery::from_static(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        );
        let request = Request::new(ReceiverStream::new(outbound));
        let mut inbound = grpc.streaming(request, path, codec).await?.into_inner();
        while let Some(response) = inbound.message().await? {
            common.counts.responses.fetch_add(1, Ordering::Relaxed);
            self.answers.fetch_add(1, Ordering::AcqRel);
            if self.manner == Manner::Slow {
                tokio::time::sleep(SLOW).await;
            }
            let answer = self.answer(&response);
            match self.manner {
                Manner::Refusing => self.refuse(response),
                Manner::Good | Manner::Slow => self.take(response, common),
            }
            requests.send(answer).await?;
        }
        Ok(())
    }

    fn first(&self, common: &Common) -> DeltaDiscoveryRequest {
        let names = match common.kind {
            Kind::Cds => Vec::new(),
            Kind::Eds => (0..common.resources).map(mark::name).collect(),
        };
        DeltaDiscoveryRequest {
            node: Some(Node { id: "bench".to_owned(), ..Node::default() }),
            type_url: common.kind.type_url().to_owned(),
            resource_names_subscribe: names,
            initial_resource_versions: self.holding().versions(),
            ..Default::default()
        }
    }

    fn answer(&self, response: &DeltaDiscoveryResponse) -> DeltaDiscoveryRequest {
        let refusal = || Status { code: 3, message: "refused on principle".to_owned() };
        DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: (self.manner == Manner::Refusing).then(refusal),
            ..Default::default()
        }
    }

    fn take(&self, response: DeltaDiscoveryResponse, common: &Common) {
        let now = mark::now();
        let mut newest = self.newest.load(Ordering::Acquire);
        let mut holding = self.holding();
        let mut delays = Vec::new();
        for resource in response.resources {
            let value = resource.resource.map(|any| any.value).unwrap_or_default();
            let Some((generation, at)) = mark::read(&value) else { continue };
            match holding.take(&resource.name, resource.version, generation) {
                Taken::Unknown => continue,
                Taken::First => drop(self.held.fetch_add(1, Ordering::AcqRel)),
                Taken::Again => drop(common.counts.duplicates.fetch_add(1, Ordering::Relaxed)),
                Taken::Newer => {}
            }
            newest = newest.max(generation);
            delays.push((generation, now.saturating_sub(at)));
        }
        drop(holding);
        if common.measuring.load(Ordering::Acquire) && self.manner == Manner::Good {
            let mut last = common.last.lock().unwrap_or_else(PoisonError::into_inner);
            for (generation, delay) in delays {
                let slot = last.entry(generation).or_default();
                *slot = delay.max(*slot);
            }
        }
        self.newest.store(newest, Ordering::Release);
    }

    fn refuse(&self, response: DeltaDiscoveryResponse) {
        let mut newest = self.newest.load(Ordering::Acquire);
        let mut set = BTreeSet::new();
        for resource in response.resources {
            let value = resource.resource.map(|any| any.value).unwrap_or_default();
            newest = newest.max(mark::read(&value).map_or(0, |(generation, _)| generation));
            set.insert((resource.name, resource.version));
        }
        self.refused().add(set);
        self.newest.store(newest, Ordering::Release);
    }
}
