//! The floor: a bare delta-ADS server that pushes prepared bytes, without database, fleet or our
//! libraries, so that only the time of gRPC and Envoy remains.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use envoy_types::pb::envoy::service::auth::v3::authorization_server::{
    Authorization, AuthorizationServer,
};
use envoy_types::pb::envoy::service::auth::v3::{CheckRequest, CheckResponse};
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource,
};
use envoy_types::pb::google::protobuf::Any;
use futures::Stream;
use imp_translate::Rendered;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::{UnboundedReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

type Push = mpsc::UnboundedSender<Result<DeltaDiscoveryResponse, Status>>;
type PushStream =
    Pin<Box<dyn Stream<Item = Result<DeltaDiscoveryResponse, Status>> + Send + 'static>>;

/// A running stub; stops when dropped.
pub struct Stub {
    shared: Arc<Shared>,
    socket: PathBuf,
    task: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    /// The newest nonce that Envoy acknowledged, and what it rejected.
    heard: watch::Sender<Heard>,
}

#[derive(Clone, Debug, Default)]
struct Heard {
    acked: u64,
    refused: Option<String>,
}

#[derive(Default)]
struct State {
    resources: BTreeMap<(&'static str, String), Resource>,
    streams: Vec<Push>,
    nonce: u64,
}

impl Stub {
    /// Listens on a socket in this directory, like the agent.
    pub async fn start(directory: &Path) -> Result<Self> {
        let socket = directory.join("stub.sock");
        let listener = UnixListener::bind(&socket)?;
        let (heard, _) = watch::channel(Heard::default());
        let shared = Arc::new(Shared { state: Mutex::default(), heard });
        let ads = AggregatedDiscoveryServiceServer::new(Service(shared.clone()));
        let server = tonic::transport::Server::builder()
            .add_service(ads)
            .add_service(AuthorizationServer::new(AllowAll))
            .serve_with_incoming(UnixListenerStream::new(listener));
        let task = tokio::spawn(async move {
            let _ = server.await; // ends with the task
        });
        Ok(Self { shared, socket, task })
    }

    /// The socket for Envoy.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Pushes resources, one message per type.
    pub fn push(&self, resources: Vec<Rendered>) -> u64 {
        let mut state = self.shared.lock();
        let mut by_type: BTreeMap<&'static str, Vec<Resource>> = BTreeMap::new();
        for rendered in resources {
            let key = (rendered.type_url, rendered.name.to_string());
            let resource = wire(rendered);
            by_type.entry(key.0).or_default().push(resource.clone());
            state.resources.insert(key, resource);
        }
        for (type_url, resources) in by_type {
            state.send_to_all(type_url, resources);
        }
        state.nonce
    }

    /// Waits until Envoy acknowledged this nonce; returns its message if it rejected something.
    pub async fn acked(&self, nonce: u64) -> Result<()> {
        let mut heard = self.shared.heard.subscribe();
        let seen = heard.wait_for(|heard| heard.acked >= nonce || heard.refused.is_some()).await?;
        match &seen.refused {
            Some(words) => anyhow::bail!("Envoy refused: {words}"),
            None => Ok(()),
        }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn message(&mut self, type_url: &str, resources: Vec<Resource>) -> DeltaDiscoveryResponse {
        self.nonce += 1;
        DeltaDiscoveryResponse {
            type_url: type_url.to_owned(),
            resources,
            nonce: self.nonce.to_string(),
            system_version_info: self.nonce.to_string(),
            ..Default::default()
        }
    }

    fn send_to_all(&mut self, type_url: &str, resources: Vec<Resource>) {
        let message = self.message(type_url, resources);
        self.streams.retain(|stream| stream.send(Ok(message.clone())).is_ok());
    }
}

fn wire(rendered: Rendered) -> Resource {
    let resource = Any { type_url: rendered.type_url.to_owned(), value: rendered.value.to_vec() };
    Resource {
        name: rendered.name.to_string(),
        version: rendered.version.to_string(),
        resource: Some(resource),
        ..Default::default()
    }
}

struct Service(Arc<Shared>);

#[tonic::async_trait]
impl AggregatedDiscoveryService for Service {
    type StreamAggregatedResourcesStream =
        Pin<Box<dyn Stream<Item = Result<DiscoveryResponse, Status>> + Send + 'static>>;
    type DeltaAggregatedResourcesStream = PushStream;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<PushStream>, Status> {
        let (push, pushes) = mpsc::unbounded_channel();
        self.0.lock().streams.push(push.clone());
        tokio::spawn(listen(self.0.clone(), request.into_inner(), push));
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(pushes))))
    }
}

/// Answers subscriptions with the current resources, and records acknowledgements.
async fn listen(shared: Arc<Shared>, mut requests: Streaming<DeltaDiscoveryRequest>, push: Push) {
    let mut known = HashSet::new();
    while let Ok(Some(request)) = requests.message().await {
        if let Ok(nonce) = request.response_nonce.parse::<u64>() {
            shared.heard.send_modify(|heard| match &request.error_detail {
                Some(error) => heard.refused = Some(error.message.clone()),
                None => heard.acked = heard.acked.max(nonce),
            });
        }
        let first = known.insert(request.type_url.clone());
        let names = &request.resource_names_subscribe;
        if !first && names.is_empty() {
            continue;
        }
        let mut state = shared.lock();
        let wanted = |name: &String| names.is_empty() || names.contains(name);
        let held: Vec<Resource> = state
            .resources
            .iter()
            .filter(|((type_url, name), _)| *type_url == request.type_url && wanted(name))
            .map(|(_, resource)| resource.clone())
            .collect();
        let message = state.message(&request.type_url, held);
        if push.send(Ok(message)).is_err() {
            return;
        }
    }
}

/// An ext_authz service that allows every call.
struct AllowAll;

#[tonic::async_trait]
impl Authorization for AllowAll {
    async fn check(&self, _: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        Ok(Response::new(CheckResponse { status: Some(Default::default()), ..Default::default() }))
    }
}
