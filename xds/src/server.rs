//! The gRPC services.

mod body;
mod driver;
mod inbound;
mod outbound;
mod route;
mod services;
mod status;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::Pending;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use crate::codec::{Frame, RequestCodec};
use crate::stream::Variant;
use crate::wire::{DeltaDiscoveryRequest, DiscoveryRequest};
use crate::{Admission, Observer, ServerConfig, StreamId, TypeUrl};

use inbound::Inbound;
use route::Route;

pub use status::{StreamStatus, TypeStatus};

/// Serves worlds to clients. As a service it is the aggregated one, in both protocols; see
/// [`Self::routes`] for those of single types. Cheap to clone; all clones are one server.
#[derive(Clone)]
pub struct AdsServer {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: ServerConfig,
    pub(crate) admission: Arc<dyn Admission>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) streams: status::Streams,
    pub(crate) closing: CancellationToken,
    syncing: Arc<Semaphore>,
    next_stream: AtomicU64,
}

impl Shared {
    /// A place among the streams that have not got everything yet (R82, R83).
    async fn place_to_sync(&self) -> Result<OwnedSemaphorePermit, Status> {
        let place = self.syncing.clone().acquire_owned();
        let place = tokio::time::timeout(self.config.sync_wait, place).await;
        place.ok().and_then(Result::ok).ok_or_else(|| {
            Status::resource_exhausted("too many clients are being filled; try again later")
        })
    }

    /// For metrics: a client may name types as it likes.
    fn label(&self, type_url: &TypeUrl) -> String {
        let known = self.config.types.iter().any(|rules| rules.type_url == *type_url);
        if known { type_url.to_string() } else { "other".to_owned() }
    }
}

impl AdsServer {
    /// A server for these types; `admission` picks each stream's world.
    pub fn new(
        config: ServerConfig,
        admission: Arc<dyn Admission>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let shared = Shared {
            syncing: Arc::new(Semaphore::new(config.max_syncing.max(1))),
            config,
            admission,
            observer,
            streams: status::Streams::default(),
            closing: CancellationToken::new(),
            next_stream: AtomicU64::new(1),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Ends every stream with `UNAVAILABLE` and opens no more, so that a server can shut down: its
    /// streams would end by nothing else.
    pub fn close(&self) {
        self.shared.closing.cancel();
    }

    /// Every open stream: what it subscribes to, what was sent, accepted, refused, and what waits (R92).
    pub fn status(&self) -> Vec<StreamStatus> {
        self.shared.streams.list()
    }

    /// The aggregated service and the services of the single types, to be added to a server of tonic.
    /// The aggregated service alone is `self`.
    pub fn routes(&self) -> tonic::service::Routes {
        services::all(self)
    }

    fn open<M: Inbound>(
        &self,
        route: &'static Route,
        sender: mpsc::Sender<Result<Frame, Status>>,
        request: Request<Streaming<M>>,
    ) -> Result<(), Status> {
        let (metadata, _, inbound) = request.into_parts();
        let headers = metadata.into_headers();
        if self.shared.closing.is_cancelled() {
            return Err(Status::unavailable("shutting down"));
        }
        self.shared.admission.authorise(&headers)?;
        let stream: StreamId = self.shared.next_stream.fetch_add(1, Ordering::Relaxed);
        let slot = self.shared.streams.open(stream, self.shared.config.max_streams)?;
        let driver = driver::Driver::new(self.shared.clone(), route, slot, headers, sender);
        tokio::spawn(driver.run(inbound));
        Ok(())
    }

    async fn serve<M: Inbound, B>(
        self,
        route: &'static Route,
        request: http::Request<B>,
    ) -> http::Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
    {
        let limit = self.shared.config.max_request_bytes;
        let mut grpc = Grpc::new(RequestCodec::<M>::default()).max_decoding_message_size(limit);
        // Small: what waits here is encoded and cannot be brought up to date any more.
        let (sender, responses) = mpsc::channel(2);
        let answer = grpc.streaming(Open(self, route, sender), request).await;
        if answer.headers().contains_key("grpc-status") {
            return answer; // refused
        }
        answer.map(|_| Body::new(body::Body::new(responses)))
    }
}

impl NamedService for AdsServer {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<B> tower::Service<http::Request<B>> for AdsServer
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let Some(route) = Route::of(request.uri().path()) else {
                return Ok(Status::unimplemented("no such method").into_http());
            };
            Ok(match route.variant {
                Variant::Delta => server.serve::<DeltaDiscoveryRequest, B>(route, request).await,
                Variant::StateOfTheWorld => {
                    server.serve::<DiscoveryRequest, B>(route, request).await
                }
            })
        })
    }
}

struct Open(AdsServer, &'static Route, mpsc::Sender<Result<Frame, Status>>);

/// What tonic is to write: nothing, [`body::Body`] does.
type Nothing = Pending<Result<Infallible, Status>>;

impl<M: Inbound> StreamingService<M> for Open {
    type Response = Infallible;
    type ResponseStream = Nothing;
    type Future = Ready<Result<Response<Nothing>, Status>>;

    fn call(&mut self, request: Request<Streaming<M>>) -> Self::Future {
        let opened = self.0.open(self.1, self.2.clone(), request);
        ready(opened.map(|()| Response::new(tokio_stream::pending())))
    }
}
