//! The agent's ext_authz service, with an engine of the tests.

use imp_agent::ext_authz::ExtAuthz;
use imp_agent::fleet::Fleet;
use imp_agent::lkg::Lkg;
use imp_agent::port::{Caller, Who};
use imp_enforce::Engine;
use imp_translate::{Layout, Options, Upstreams};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::service::interceptor::InterceptedService;

/// A running service; ends when it is dropped.
pub(crate) struct Agent {
    pub(crate) port: u16,
    _runtime: tokio::runtime::Runtime,
    _directory: tempfile::TempDir,
}

/// Starts it. Envoys that ask may serve this gateway only.
pub(crate) fn start(engine: Engine, gateway: &str) -> Agent {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let _inside = runtime.enter();
    let options = Options {
        bind_address: "127.0.0.1".into(),
        layout: Layout::ScopedRoutes,
        agent_cluster: "agent".into(),
        upstreams: Upstreams::default(),
        door: Default::default(),
        tells_hosts: false,
    };
    let (lkg, _loaded) = Lkg::open(directory.path()).unwrap();
    let fleet = Fleet::start(options, engine.clone(), lkg, CancellationToken::new());
    fleet.decide();
    let caller = Caller::direct(Who::Node { gateway: Some(gateway.to_owned()), id: "test".into() });
    let named = move |mut request: Request<()>| {
        request.extensions_mut().insert(caller.clone());
        Ok(request)
    };
    let service = InterceptedService::new(ExtAuthz::service(engine, fleet), named);
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tonic::transport::Server::builder().add_service(service);
    runtime.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    drop(_inside);
    Agent { port, _runtime: runtime, _directory: directory }
}
