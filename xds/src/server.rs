//! The gRPC services.

mod body;
mod driver;
mod envelope;
mod inbound;
mod limits;
mod meters;
mod outbound;
mod outgoing;
mod requests;
mod route;
mod services;
mod session;
mod status;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use http::HeaderValue;
use http::header::CONTENT_TYPE;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;

use crate::stream::Variant;
use crate::wire::{DeltaDiscoveryRequest, DiscoveryRequest};
use crate::{Admission, Observer, ServerConfig, StreamId, TypeUrl};

use driver::{Driver, Told};
use inbound::Inbound;
use requests::Requests;
use route::Route;
use session::Session;

pub use services::SINGLE_TYPE_SERVICES;
pub use status::{StreamStatus, TypeStatus};

/// Serves resource sets to clients. As a service it is the aggregated one, in both protocols; see
/// [`Self::routes`] for those of single types. Cheap to clone; clones are one server.
#[derive(Clone)]
pub struct AdsServer {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) config: ServerConfig,
    pub(crate) admission: Arc<dyn Admission>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) streams: status::Streams,
    closing: AtomicBool,
    syncing: Arc<Semaphore>,
    next_stream: AtomicU64,
}

impl Shared {
    /// Waits for a slot for streams that have not got everything yet (R82, R83).
    async fn place_to_sync(&self) -> Result<OwnedSemaphorePermit, Status> {
        let place = self.syncing.clone().acquire_owned();
        let place = tokio::time::timeout(self.config.sync_wait, place).await;
        place.ok().and_then(Result::ok).ok_or_else(|| {
            Status::resource_exhausted("too many clients are being filled; try again later")
        })
    }

    /// The metrics label of a type: clients may send arbitrary names.
    fn label<'a>(&self, type_url: &'a TypeUrl) -> &'a str {
        let known = self.config.types.iter().any(|rules| rules.type_url == *type_url);
        if known { type_url.as_str() } else { "other" }
    }
}

impl AdsServer {
    /// A server for these types; `admission` chooses each stream's resource set.
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
            closing: AtomicBool::new(false),
            next_stream: AtomicU64::new(1),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Ends every stream with `UNAVAILABLE` and refuses new ones, for a shutdown: streams would not
    /// end by themselves.
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.streams.stop(&closing());
    }

    /// The state of every open stream: subscriptions, responses sent, acknowledged and rejected,
    /// and what waits (R92).
    pub fn status(&self) -> Vec<StreamStatus> {
        self.shared.streams.list()
    }

    /// Sends a resource again that the client of a stream rejected and that has not changed since:
    /// the cause may be gone. Returns false if there is nothing to send.
    pub fn retry(&self, stream: StreamId, type_url: &TypeUrl, name: &str) -> bool {
        self.shared.streams.get(stream).is_some_and(|session| session.retry(type_url, name))
    }

    /// Sends everything again that the client of a stream subscribes to of a type. Envoy silently
    /// forgets what depends on a listener that it could not open.
    pub fn resend(&self, stream: StreamId, type_url: &TypeUrl) {
        if let Some(session) = self.shared.streams.get(stream) {
            session.resend(type_url);
        }
    }

    /// Ends a stream with `UNAVAILABLE`: its client comes again with what it has, and is admitted as if
    /// it were new.
    pub fn hang_up(&self, stream: StreamId, why: &str) {
        if let Some(session) = self.shared.streams.get(stream) {
            session.stop(Status::unavailable(why).into());
        }
    }

    /// The aggregated service and these of [`SINGLE_TYPE_SERVICES`], to be added to a tonic server.
    /// The aggregated service alone is `self`.
    pub fn routes(&self, of_types: &[&str]) -> tonic::service::Routes {
        services::with(self, of_types)
    }

    /// Opens a stream, or returns why not.
    fn open<M: Inbound, B>(
        &self,
        route: &'static Route,
        request: http::Request<B>,
    ) -> Result<body::Body, Status>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
    {
        let (parts, inbound) = request.into_parts();
        self.shared.admission.authorise(&parts)?;
        let id: StreamId = self.shared.next_stream.fetch_add(1, Ordering::Relaxed);
        let (session, stopped) = Session::new(self.shared.clone(), route, id);
        let session = Arc::new(session);
        let slot = self.shared.streams.open(&session, self.shared.config.max_streams)?;
        // It is in the list by now: a concurrent close either finds it there, or was seen here.
        if self.shared.closing.load(Ordering::SeqCst) {
            return Err(closing());
        }
        let requests = Requests::new(inbound, self.shared.config.max_request_bytes);
        let http::request::Parts { headers, extensions, .. } = parts;
        let told = Told { headers, extensions };
        let driver = Driver { session: session.clone(), slot, told, requests, stopped };
        tokio::spawn(driver.run::<M>());
        Ok(body::Body::new(session))
    }

    fn serve<B>(&self, request: http::Request<B>) -> Result<body::Body, Status>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
    {
        let route = Route::of(request.uri().path());
        let route = route.ok_or_else(|| Status::unimplemented("no such method"))?;
        match route.variant {
            Variant::Delta => self.open::<DeltaDiscoveryRequest, B>(route, request),
            Variant::StateOfTheWorld => self.open::<DiscoveryRequest, B>(route, request),
        }
    }
}

impl NamedService for AdsServer {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl<B> tower::Service<http::Request<B>> for AdsServer
where
    B: http_body::Body + Send + 'static,
    B::Data: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        ready(Ok(match self.serve(request) {
            Ok(body) => answer(body),
            Err(status) => status.into_http(),
        }))
    }
}

fn closing() -> Status {
    Status::unavailable("shutting down")
}

fn answer(body: body::Body) -> http::Response<Body> {
    let mut answer = http::Response::new(Body::new(body));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-accept-encoding", HeaderValue::from_static("identity"));
    answer
}
