//! imp-xds behind the line protocol of `bench-xds`: `xds_server cds|eds COUNT`.

use std::sync::Arc;

use anyhow::Result;
use imp_bench::xds::{Kind, lines, resource};
use imp_xds::{
    Admission, AdsServer, Change, KeepAlive, NoObserver, Peer, Resource, ResourceSet, ServerConfig,
    TypeRules,
};
use tonic::Status;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

/// Every client sees the same resource set.
struct Everyone(ResourceSet);

impl Admission for Everyone {
    fn admit(&self, _: &Peer<'_>) -> Result<ResourceSet, Status> {
        Ok(self.0.clone())
    }
}

fn main() -> Result<()> {
    let (kind, count) = lines::arguments()?;
    let set = ResourceSet::new();
    let apply = |resources: &[(u64, u64)]| {
        let mut change = Change::default();
        for &(index, generation) in resources {
            change.upsert(kind.type_url(), made(kind, index, generation));
        }
        set.apply(change);
    };
    apply(&(0..count).map(|index| (index, 0)).collect::<Vec<_>>());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("xds_server")
        .enable_all()
        .build()?;
    let port = runtime.block_on(serve(kind, set.clone()))?;
    lines::follow(port, count, apply)
}

async fn serve(kind: Kind, set: ResourceSet) -> Result<u16> {
    let config = ServerConfig::new(vec![TypeRules::new(kind.type_url(), 0)]);
    let server = AdsServer::new(config, Arc::new(Everyone(set)), Arc::new(NoObserver));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    let router = KeepAlive::default().on_server(Server::builder()).add_service(server);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(router.serve_with_incoming(incoming));
    Ok(port)
}

fn made(kind: Kind, index: u64, generation: u64) -> Resource {
    let (name, bytes) = resource(kind, usize::try_from(index).unwrap_or_default(), generation);
    Resource::new(name, generation.to_string(), bytes.into())
}
