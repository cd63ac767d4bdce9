//! The agent's ext_authz service on a Unix socket, with an engine of the benchmark's.

use std::path::Path;

use anyhow::Result;
use imp_agent::ext_authz::ExtAuthz;
use imp_agent::fleet::Fleet;
use imp_agent::lkg::Lkg;
use imp_agent::port::{Caller, Who};
use imp_enforce::Engine;
use imp_translate::{Layout, Options, Upstreams};
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Runtime};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::service::interceptor::InterceptedService;

/// A running service, on threads of its own; ends when it is dropped.
pub(super) struct Service {
    runtime: Option<Runtime>,
}

impl Service {
    pub(super) fn start(engine: Engine, directory: &Path, socket: &Path) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let inside = runtime.enter();
        let options = Options {
            bind_address: "127.0.0.1".into(),
            layout: Layout::ScopedRoutes,
            agent_cluster: "agent".into(),
            upstreams: Upstreams::default(),
            door: Default::default(),
            tells_hosts: false,
        };
        let (lkg, _loaded) = Lkg::open(directory)?;
        let fleet = Fleet::start(options, engine.clone(), lkg, CancellationToken::new());
        fleet.decide();
        let caller = Caller::direct(Who::Node { gateway: None, id: "bench".into() });
        let named = move |mut request: Request<()>| {
            request.extensions_mut().insert(caller.clone());
            Ok(request)
        };
        let service = InterceptedService::new(ExtAuthz::service(engine, fleet), named);
        let server = tonic::transport::Server::builder().add_service(service);
        let incoming = UnixListenerStream::new(UnixListener::bind(socket)?);
        runtime.spawn(server.serve_with_incoming(incoming));
        drop(inside);
        Ok(Self { runtime: Some(runtime) })
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Also inside of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
