//! A server on a real socket, with the events that its observer received.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use imp_xds::{Admission, AdsServer, Event, KeepAlive, Observer, Peer, ResourceSet, ServerConfig};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

/// Every client sees one resource set, until the token is cancelled.
pub(crate) struct One(pub(crate) ResourceSet, pub(crate) CancellationToken);

impl Admission for One {
    fn authorise(&self, request: &http::request::Parts) -> Result<(), Status> {
        match request.headers.get("authorization") {
            Some(value) if value == "Bearer wrong" => Err(Status::unauthenticated("who are you?")),
            _ => Ok(()),
        }
    }

    fn admit(&self, _: &Peer<'_>) -> Result<ResourceSet, Status> {
        Ok(self.0.clone())
    }

    fn revoked(&self, _: &Peer<'_>) -> Option<CancellationToken> {
        Some(self.1.clone())
    }
}

/// Records events.
#[derive(Clone, Default)]
pub(crate) struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().expect("notes").clone()
    }
}

impl Observer for Notes {
    fn event(&self, event: Event<'_>) {
        let names = |list: &[imp_xds::SentResource]| {
            let mut names: Vec<_> = list.iter().map(|r| r.name().to_string()).collect();
            names.sort();
            names.join(" ")
        };
        let note = match event {
            Event::Opened { peer, .. } => format!("opened {}", peer.node_id),
            Event::Held { resources, .. } => format!("held {}", names(resources)),
            Event::Sent { resources, .. } => format!("sent {}", names(resources)),
            Event::Acked { resources, .. } => format!("acked {}", names(resources)),
            Event::Nacked { resources, message, .. } => {
                format!("nacked {}: {message}", names(resources))
            }
            Event::Closed { .. } => "closed".to_owned(),
        };
        self.0.lock().expect("notes").push(note);
    }
}

pub(crate) struct Running {
    pub(crate) server: AdsServer,
    pub(crate) set: ResourceSet,
    pub(crate) notes: Notes,
    pub(crate) revoked: CancellationToken,
    pub(crate) address: SocketAddr,
    /// Its own runtime, so that it can end at once with all that it runs.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Running {
    pub(crate) async fn start(set: ResourceSet, config: ServerConfig) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let notes = Notes::default();
        Self::on(listener, set, config, notes.clone(), Arc::new(notes))
    }

    /// A server with its own observer.
    pub(crate) async fn observed(
        set: ResourceSet,
        config: ServerConfig,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        Self::on(listener, set, config, Notes::default(), observer)
    }

    /// A server on an address that was used before.
    pub(crate) async fn restart(
        address: SocketAddr,
        set: ResourceSet,
        config: ServerConfig,
    ) -> Self {
        let mut listener = None;
        until("the port is free again", || {
            listener = std::net::TcpListener::bind(address).ok();
            listener.is_some()
        })
        .await;
        let notes = Notes::default();
        let listener = listener.expect("a listener");
        Self::on(listener, set, config, notes.clone(), Arc::new(notes))
    }

    fn on(
        listener: std::net::TcpListener,
        set: ResourceSet,
        config: ServerConfig,
        notes: Notes,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let address = listener.local_addr().expect("an address");
        listener.set_nonblocking(true).expect("a listener");
        let revoked = CancellationToken::new();
        let admission = Arc::new(One(set.clone(), revoked.clone()));
        let server = AdsServer::new(config, admission, observer);
        let alive = KeepAlive { interval: Duration::from_secs(1), timeout: Duration::from_secs(2) };
        let router = alive
            .on_server(Server::builder())
            .add_routes(server.routes(imp_xds::SINGLE_TYPE_SERVICES));
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            router.serve_with_incoming(TcpIncoming::from(listener)).await.expect("served");
        });
        Self { server, set, notes, revoked, address, runtime: Some(runtime) }
    }

    pub(crate) async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
        endpoint.expect("an address").connect().await.expect("a connection")
    }

    /// Ends it like a killed process, connections and all.
    pub(crate) fn kill(self) {}
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < deadline, "{what}: it never was so");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
