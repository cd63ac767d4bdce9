//! Serves one cluster over ADS, and a new version of it every second.
//! Point an Envoy, or any other client, at 127.0.0.1:18000.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use imp_xds::{Admission, AdsServer, Change, KeepAlive, NoObserver, Peer, Resource};
use imp_xds::{ResourceSet, ServerConfig, TypeRules};
use tonic::Status;
use tonic::transport::Server;

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/// Every client sees the same resource set.
struct Everybody(ResourceSet);

impl Admission for Everybody {
    fn admit(&self, _: &Peer<'_>) -> Result<ResourceSet, Status> {
        Ok(self.0.clone())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let set = ResourceSet::new();
    let config = ServerConfig::new(vec![TypeRules::new(CLUSTER, 0)]);
    let server = AdsServer::new(config, Arc::new(Everybody(set.clone())), Arc::new(NoObserver));
    tokio::spawn(async move {
        for version in 1_u32.. {
            let mut change = Change::default();
            // Field 1 of a Cluster is its name. A real version is a hash of the content.
            let cluster = Bytes::from_static(b"\x0a\x04demo");
            change.upsert(CLUSTER, Resource::new("demo", version.to_string(), cluster));
            set.apply(change);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let mut listener = KeepAlive::default().on_server(Server::builder());
    listener.add_service(server).serve("127.0.0.1:18000".parse()?).await?;
    Ok(())
}
