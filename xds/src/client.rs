//! The client side of the delta protocol: one aggregated stream, resumed whenever it ends.

mod waiting;

use std::sync::Arc;
use std::time::{Duration, Instant};

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use futures::future::BoxFuture;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::wire::{self, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use crate::{MAX_RESOURCE_BYTES, Resource, TypeUrl};
use waiting::Waiting;

/// The identity of a client, and its subscriptions.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// `node.id`.
    pub node_id: String,
    /// `node.cluster`.
    pub node_cluster: String,
    /// `node.user_agent_version`.
    pub version: String,
    /// The types to subscribe to, with all resources of each.
    pub types: Vec<TypeUrl>,
    /// The first and the longest delay before a retry; each delay is drawn from the upper half of
    /// its step, and the steps double (R87).
    pub backoff: (Duration, Duration),
    /// A larger response ends the stream: the server splits its responses, so it cannot be ours.
    pub max_response_bytes: usize,
}

/// Several times the size at which a server splits its responses (R93), so that a single large
/// resource also fits.
const MAX_RESPONSE_BYTES: usize = 2 * MAX_RESOURCE_BYTES;

impl ClientConfig {
    /// A configuration with retry delays of 10 ms to 15 s.
    pub fn new(node_id: impl Into<String>, types: Vec<TypeUrl>) -> Self {
        Self {
            node_id: node_id.into(),
            node_cluster: String::new(),
            version: String::new(),
            types,
            backoff: (Duration::from_millis(10), Duration::from_secs(15)),
            max_response_bytes: MAX_RESPONSE_BYTES,
        }
    }
}

/// A decoded response.
#[derive(Clone, Debug)]
pub struct Update {
    pub type_url: TypeUrl,
    /// New or changed.
    pub upserts: Vec<Resource>,
    /// Names of removed resources.
    pub removals: Vec<String>,
    /// The first answer continues in the next response, so this is not everything yet (R93).
    pub more: bool,
}

/// The resources that could not be applied, with the reasons, available later. An error ends the
/// stream, and the next one begins with what is held by then.
pub type Rejections = BoxFuture<'static, Result<Vec<(String, String)>, Status>>;

/// Stores the resources.
pub trait Subscriber: Send + Sync + 'static {
    /// Name and version of everything held, so that a new stream sends only the rest (R37).
    fn held(&self, type_url: &TypeUrl) -> Vec<(String, String)>;

    /// Applies what it can; returns the rest with the reasons, which are sent in the NACK. Those
    /// must not be recorded as held.
    fn apply(&self, update: Update) -> Vec<(String, String)>;

    /// Called before [`Self::apply`], to do slow work elsewhere. The update is acknowledged when
    /// the future completes; updates of other types are applied meanwhile, but those of this type
    /// must not overtake it. A returned update is applied at once.
    fn apply_elsewhere(&self, update: Update) -> Result<Rejections, Update> {
        Err(update)
    }

    /// Called right after [`Self::apply`]: the update is acknowledged when this future completes,
    /// while the next one is applied. `None` acknowledges at once.
    fn kept(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// A stream came up or went down.
    fn connected(&self, _connected: bool) {}
}

/// A stream that breaks sooner does not reset the back-off: a server that answers once and fails
/// would otherwise be asked for everything a hundred times a second.
const SETTLED: Duration = Duration::from_secs(1);

/// The timeout of each of the two steps to open a stream. Dead open streams are detected by the
/// channel's keep-alive.
const CONNECT_AT_MOST: Duration = Duration::from_secs(30);

/// A delta client: connects, subscribes, acknowledges, and reconnects.
pub struct DeltaClient {
    config: ClientConfig,
    subscriber: Arc<dyn Subscriber>,
}

impl DeltaClient {
    /// A client that passes everything to `subscriber`.
    pub fn new(config: ClientConfig, subscriber: Arc<dyn Subscriber>) -> Self {
        Self { config, subscriber }
    }

    /// Runs until cancelled. `connect` returns a channel and the stream's metadata for every
    /// attempt.
    pub async fn run<C, F>(&self, connect: C, cancel: CancellationToken)
    where
        C: Fn() -> F + Send,
        F: Future<Output = Result<(Channel, MetadataMap), Status>> + Send,
    {
        let (shortest, longest) = self.config.backoff;
        let mut tries = waits(shortest, longest);
        loop {
            let started = Instant::now();
            let mut served = false;
            let ended = tokio::select! {
                () = cancel.cancelled() => {
                    self.subscriber.connected(false);
                    return;
                }
                ended = self.stream(&connect, &mut served) => ended,
            };
            self.subscriber.connected(false);
            if served && (ended.is_ok() || started.elapsed() >= SETTLED) {
                tries = waits(shortest, longest);
            }
            let wait = tries.next().unwrap_or(longest);
            match ended {
                Ok(()) => tracing::debug!("the delta stream was closed"),
                Err(status) => {
                    tracing::warn!(code = ?status.code(), reason = status.message(), ?wait, "the delta stream failed")
                }
            }
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn stream<C, F>(&self, connect: &C, served: &mut bool) -> Result<(), Status>
    where
        C: Fn() -> F,
        F: Future<Output = Result<(Channel, MetadataMap), Status>>,
    {
        let slow = |_| Status::deadline_exceeded("the server took too long");
        let connected = tokio::time::timeout(CONNECT_AT_MOST, connect()).await;
        let (channel, metadata) = connected.map_err(slow)??;
        // Answers are sent one by one as responses arrive; the first requests must fit at once.
        let (requests, outbound) = mpsc::channel(self.config.types.len() + 16);
        for request in self.first_requests() {
            requests.send(request).await.map_err(|_| closed())?;
        }
        let called = call(channel, metadata, outbound, self.config.max_response_bytes);
        let mut inbound = tokio::time::timeout(CONNECT_AT_MOST, called).await.map_err(slow)??;
        self.subscriber.connected(true);
        let mut waiting = Waiting::default();
        loop {
            tokio::select! {
                response = inbound.message(), if waiting.len() < MOST_WAITING => {
                    let Some(response) = response? else { return Ok(()) };
                    *served = true;
                    let type_url = TypeUrl::from(response.type_url.as_str());
                    match self.take(response) {
                        Answer::Now(answer) if !waiting.holds(&type_url) => {
                            requests.send(*answer).await.map_err(|_| closed())?;
                        }
                        Answer::Now(answer) => waiting.push(type_url, Box::pin(async { Ok(*answer) })),
                        Answer::Later(answer) => waiting.push(type_url, answer),
                    }
                }
                answer = waiting.next() => {
                    requests.send(answer?).await.map_err(|_| closed())?;
                }
            }
        }
    }

    fn first_requests(&self) -> Vec<DeltaDiscoveryRequest> {
        let node = Node {
            id: self.config.node_id.clone(),
            cluster: self.config.node_cluster.clone(),
            user_agent_version: self.config.version.clone(),
            ..Node::default()
        };
        let request = |(index, type_url): (usize, &TypeUrl)| DeltaDiscoveryRequest {
            node: (index == 0).then(|| node.clone()),
            type_url: type_url.to_string(),
            resource_names_subscribe: vec!["*".to_owned()],
            initial_resource_versions: self.subscriber.held(type_url).into_iter().collect(),
            ..Default::default()
        };
        self.config.types.iter().enumerate().map(request).collect()
    }

    fn take(&self, response: DeltaDiscoveryResponse) -> Answer {
        let DeltaDiscoveryResponse { type_url, nonce, resources, removed_resources, more, .. } =
            response;
        let update = Update {
            type_url: TypeUrl::from(type_url.as_str()),
            upserts: resources.into_iter().filter_map(resource).collect(),
            removals: removed_resources,
            more,
        };
        let update = match self.subscriber.apply_elsewhere(update) {
            Ok(rejected) => {
                return Answer::Later(Box::pin(async move {
                    Ok(answer(type_url, nonce, rejected.await?))
                }));
            }
            Err(update) => update,
        };
        let answer = answer(type_url, nonce, self.subscriber.apply(update));
        match self.subscriber.kept() {
            None => Answer::Now(Box::new(answer)),
            Some(kept) => Answer::Later(Box::pin(async move {
                kept.await;
                Ok(answer)
            })),
        }
    }
}

/// The most pending acknowledgements; above this number nothing is read.
const MOST_WAITING: usize = 64;

/// The answer to a response.
enum Answer {
    Now(Box<DeltaDiscoveryRequest>),
    Later(BoxFuture<'static, Result<DeltaDiscoveryRequest, Status>>),
}

fn answer(
    type_url: String,
    nonce: String,
    rejected: Vec<(String, String)>,
) -> DeltaDiscoveryRequest {
    let words: Vec<_> = rejected.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    let refusal =
        wire::Status { code: tonic::Code::InvalidArgument as i32, message: words.join("\n") };
    DeltaDiscoveryRequest {
        type_url,
        response_nonce: nonce,
        error_detail: (!rejected.is_empty()).then_some(refusal),
        ..Default::default()
    }
}

/// `None` for a heartbeat, which only says that the resource is still valid (R75).
fn resource(resource: wire::Resource) -> Option<Resource> {
    let made = Resource::new(resource.name, resource.version, resource.resource?.value);
    Some(match resource.metadata {
        Some(metadata) => made.with_metadata(metadata),
        None => made,
    })
}

/// Delays between retries: steps that double up to a limit, without end. Each delay is drawn from
/// the upper half of its step, so that clients that failed together do not come back together.
pub fn waits(shortest: Duration, longest: Duration) -> ExponentialBackoff {
    // Jitter adds up to the whole of a delay, so half of each step is given.
    ExponentialBuilder::new()
        .with_min_delay(shortest.min(longest) / 2)
        .with_max_delay(longest / 2)
        .with_factor(2.0)
        .without_max_times()
        .with_jitter()
        .build()
}

fn closed() -> Status {
    Status::unavailable("the stream was closed")
}

pub(crate) async fn call(
    channel: Channel,
    metadata: MetadataMap,
    outbound: mpsc::Receiver<DeltaDiscoveryRequest>,
    max_response_bytes: usize,
) -> Result<Streaming<DeltaDiscoveryResponse>, Status> {
    let codec: ProstCodec<DeltaDiscoveryRequest, DeltaDiscoveryResponse> = ProstCodec::default();
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(max_response_bytes);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(ReceiverStream::new(outbound));
    *request.metadata_mut() = metadata;
    let path = http::uri::PathAndQuery::from_static(
        "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
    );
    Ok(grpc.streaming(request, path, codec).await?.into_inner())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Taken(Mutex<Vec<String>>);

    impl Subscriber for Taken {
        fn held(&self, _: &TypeUrl) -> Vec<(String, String)> {
            Vec::new()
        }

        fn apply(&self, update: Update) -> Vec<(String, String)> {
            let names = update.upserts.iter().map(|resource| resource.name().to_string());
            self.0.lock().expect("names").extend(names.chain(update.removals));
            Vec::new()
        }
    }

    #[test]
    fn r75_a_heartbeat_is_accepted_and_changes_nothing() {
        let taken = Arc::new(Taken::default());
        let client = DeltaClient::new(ClientConfig::new("node", Vec::new()), taken.clone());
        let kept = Resource::new("kept", "1", "content".into()).with_ttl(Duration::from_secs(1));
        let heartbeat = wire::Resource {
            name: kept.name().to_string(),
            version: kept.version().to_string(),
            ttl: kept.ttl().map(Into::into),
            ..Default::default()
        };
        let any = wire::Any { type_url: "t".to_owned(), value: kept.value().clone() };
        let whole = wire::Resource { resource: Some(any), ..heartbeat.clone() };
        for (resource, names) in [(whole, 1), (heartbeat, 1)] {
            let taken_in = client.take(DeltaDiscoveryResponse {
                type_url: "t".to_owned(),
                nonce: "7".to_owned(),
                resources: vec![resource],
                ..Default::default()
            });
            let Answer::Now(answer) = taken_in else { panic!("it waits") };
            assert_eq!((&*answer.response_nonce, answer.error_detail), ("7", None));
            assert_eq!(taken.0.lock().expect("names").len(), names);
        }
    }
}
