//! Many lean delta clients, each on a connection of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use imp_xds::wire::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Status};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::{Kind, mark};

/// How a client behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// Takes everything.
    Good,
    /// Takes its time over each response.
    Slow,
    /// Refuses everything.
    Refusing,
}

/// A response of a slow client stays unread so long.
const SLOW: Duration = Duration::from_millis(300);

/// Connections that are made at the same time.
const DIALLING: usize = 64;

/// What a client holds: the generation of each resource, and the versions.
#[derive(Clone, Debug, Default)]
pub(super) struct Holding {
    generations: Vec<Option<u64>>,
    versions: HashMap<String, String>,
}

/// What came to all clients.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Responses' bytes.
    pub(super) bytes: AtomicU64,
    /// Responses.
    pub(super) responses: AtomicU64,
    /// Resources that a client had already, as they are.
    pub(super) duplicates: AtomicU64,
}

/// One client, as the fleet sees it.
#[derive(Debug)]
struct Client {
    manner: Manner,
    holding: Mutex<Holding>,
    /// The newest generation that came.
    newest: AtomicU64,
    /// Resources it holds.
    held: AtomicU64,
    /// Responses that it has got.
    answers: AtomicU64,
}

/// Connected clients; they leave when this is dropped.
pub(super) struct Fleet {
    clients: Vec<Arc<Client>>,
    /// Nanoseconds from a change until the last client had it, by generation.
    last: Arc<Mutex<HashMap<u64, u64>>>,
    /// Of everything so far.
    pub(super) counts: Arc<Counts>,
    measuring: Arc<AtomicBool>,
    resources: usize,
    tasks: JoinSet<Result<()>>,
}

impl Fleet {
    /// Connects that many clients, every tenth in another manner if there is one. `held` is what
    /// they hold from before.
    pub(super) async fn connect(
        port: u16,
        kind: Kind,
        manners: &[Manner],
        resources: usize,
        held: Option<&Holding>,
    ) -> Result<Self> {
        let mut fleet = Self {
            clients: Vec::new(),
            last: Arc::default(),
            counts: Arc::default(),
            measuring: Arc::default(),
            resources,
            tasks: JoinSet::new(),
        };
        let dialling = Arc::new(tokio::sync::Semaphore::new(DIALLING));
        for &manner in manners {
            let holding = held.cloned().unwrap_or_else(|| Holding {
                generations: vec![None; resources],
                versions: HashMap::new(),
            });
            let had = holding.generations.iter().flatten().count() as u64;
            let client = Arc::new(Client {
                manner,
                holding: Mutex::new(holding),
                newest: AtomicU64::new(0),
                held: AtomicU64::new(had),
                answers: AtomicU64::new(0),
            });
            fleet.clients.push(client.clone());
            let dialling = dialling.clone();
            let (last, counts) = (fleet.last.clone(), fleet.counts.clone());
            let measuring = fleet.measuring.clone();
            fleet.tasks.spawn(async move {
                let permit = dialling.acquire_owned().await?;
                let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}"))?;
                let channel = endpoint.connect().await?;
                drop(permit);
                client.follow(channel, kind, resources, &last, &counts, &measuring).await
            });
        }
        Ok(fleet)
    }

    /// Until everyone who is awaited holds everything.
    pub(super) async fn synced(&mut self, limit: Duration) -> Result<()> {
        let whole = self.resources as u64;
        self.until("synced", limit, |client| client.held.load(Ordering::Acquire) >= whole).await
    }

    /// Until everyone who is awaited has seen this generation.
    pub(super) async fn reached(&mut self, generation: u64, limit: Duration) -> Result<()> {
        let seen = |client: &Client| client.newest.load(Ordering::Acquire) >= generation;
        self.until("up to date", limit, seen).await
    }

    /// Until everyone who is awaited has got a response, be it an empty one.
    pub(super) async fn answered(&mut self, limit: Duration) -> Result<()> {
        self.until("answered", limit, |client| client.answers.load(Ordering::Acquire) > 0).await
    }

    /// Fails if a client's stream has ended.
    pub(super) fn still_connected(&mut self) -> Result<()> {
        match self.tasks.try_join_next() {
            None => Ok(()),
            Some(ended) => {
                ended?.context("a client was cut off")?;
                bail!("a client's stream was closed")
            }
        }
    }

    async fn until(
        &mut self,
        what: &str,
        limit: Duration,
        done: impl Fn(&Client) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !self.awaited().all(|client| done(client)) {
            self.still_connected()?;
            if Instant::now() > deadline {
                let missing = self.awaited().filter(|client| !done(client)).count();
                bail!("{missing} clients are not {what} after {limit:?}");
            }
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        Ok(())
    }

    /// Slow clients are there to be in the way, and nobody waits for them.
    fn awaited(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.clients.iter().filter(|client| client.manner != Manner::Slow)
    }

    fn good(&self) -> impl Iterator<Item = &Arc<Client>> {
        self.clients.iter().filter(|client| client.manner == Manner::Good)
    }

    /// Resources of good clients that are not what they should be at this generation.
    pub(super) fn lost(&self, generation: u64) -> u64 {
        let resources = self.resources as u64;
        let expected = |index: usize| {
            let behind = (generation + resources - 1 - index as u64) / resources;
            behind.checked_sub(1).map_or(0, |laps| laps * resources + index as u64 + 1)
        };
        let wrong = |client: &Arc<Client>| {
            let holding = client.holding();
            let held = holding.generations.iter().enumerate();
            held.filter(|(index, held)| **held != Some(expected(*index))).count() as u64
        };
        self.good().map(wrong).sum()
    }

    /// From now on the time of each change is taken.
    pub(super) fn measure(&self) {
        self.measuring.store(true, Ordering::Release);
    }

    /// Milliseconds from each change until the last good client had it. Changes that were overtaken
    /// by a newer one of the same resource are not among them.
    pub(super) fn delays(&self) -> Vec<f64> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.values().map(|nanos| *nanos as f64 / 1e6).collect()
    }

    /// What one of the good clients holds.
    pub(super) fn holding(&self) -> Result<Holding> {
        Ok(self.good().next().context("no good client")?.holding().clone())
    }
}

impl Client {
    fn holding(&self) -> std::sync::MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow(
        &self,
        channel: tonic::transport::Channel,
        kind: Kind,
        resources: usize,
        last: &Mutex<HashMap<u64, u64>>,
        counts: &Counts,
        measuring: &AtomicBool,
    ) -> Result<()> {
        let (requests, outbound) = mpsc::channel(4);
        requests.send(self.first(kind, resources)).await?;
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
            counts.responses.fetch_add(1, Ordering::Relaxed);
            self.answers.fetch_add(1, Ordering::AcqRel);
            counts.bytes.fetch_add(response.encoded_len() as u64, Ordering::Relaxed);
            if self.manner == Manner::Slow {
                tokio::time::sleep(SLOW).await;
            }
            let answer = DeltaDiscoveryRequest {
                type_url: response.type_url.clone(),
                response_nonce: response.nonce.clone(),
                error_detail: (self.manner == Manner::Refusing)
                    .then(|| Status { code: 3, message: "refused on principle".to_owned() }),
                ..Default::default()
            };
            let measured = measuring.load(Ordering::Acquire);
            self.take(response, counts, measured.then_some(last));
            requests.send(answer).await?;
        }
        Ok(())
    }

    fn first(&self, kind: Kind, resources: usize) -> DeltaDiscoveryRequest {
        let names = match kind {
            Kind::Cds => Vec::new(),
            Kind::Eds => (0..resources).map(mark::name).collect(),
        };
        DeltaDiscoveryRequest {
            node: Some(Node { id: "bench".to_owned(), ..Node::default() }),
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: names,
            initial_resource_versions: self.holding().versions.clone(),
            ..Default::default()
        }
    }

    fn take(
        &self,
        response: DeltaDiscoveryResponse,
        counts: &Counts,
        last: Option<&Mutex<HashMap<u64, u64>>>,
    ) {
        let now = mark::now();
        let mut newest = self.newest.load(Ordering::Acquire);
        let mut holding = self.holding();
        let mut delays = Vec::new();
        for resource in response.resources {
            let value = resource.resource.map(|any| any.value).unwrap_or_default();
            let Some((generation, at)) = mark::read(&value) else { continue };
            let Some(index) = mark::index(&resource.name) else { continue };
            let Some(held) = holding.generations.get_mut(index) else { continue };
            match held.replace(generation) {
                None => drop(self.held.fetch_add(1, Ordering::AcqRel)),
                Some(before) if before >= generation => {
                    counts.duplicates.fetch_add(1, Ordering::Relaxed);
                }
                Some(_) => {}
            }
            holding.versions.insert(resource.name, resource.version);
            newest = newest.max(generation);
            delays.push((generation, now.saturating_sub(at)));
        }
        drop(holding);
        if let (Some(last), Manner::Good) = (last, self.manner) {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            for (generation, delay) in delays {
                let slot = last.entry(generation).or_default();
                *slot = delay.max(*slot);
            }
        }
        self.newest.store(newest, Ordering::Release);
    }
}
