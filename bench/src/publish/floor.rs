//! The floor: a bare stub pushes the same cluster and the same scope, rendered outside of the
//! measurement, to an Envoy of the same layout.

use std::time::Instant;

use anyhow::{Context as _, Result};
use imp_grammar::network::{self, Networks};
use imp_proto::config as pb;
use imp_translate::xds::{CLUSTER, SCOPE};
use imp_translate::{Assembly, Layout, Options, Rendered, Upstreams, ir};

use super::ours::{connect_timeout_ms, milliseconds};
use super::{Bytes, Probes, Timing, host};
use crate::counting::Counting;
use crate::ports;
use crate::process::eventually;
use crate::stack::{AGENT_CLUSTER, Envoy, PATIENCE};
use crate::stub::Stub;
use crate::upstream::Upstream;

const GATEWAY: &str = "00000000-0000-7000-8000-000000000001";

/// A stub and its Envoy.
pub struct Floor {
    probes: Option<Probes>,
    envoy: Envoy,
    stub: Stub,
    upstream: Upstream,
    assembly: Assembly,
    port: u16,
    barrier: bool,
    directory: tempfile::TempDir,
}

impl Floor {
    /// With `barrier`, the scope waits until Envoy has acknowledged the cluster, as for every
    /// server that does not know how long a cluster warms; without, both are sent at once.
    pub async fn start(barrier: bool, workers: u32) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("imp-floor-").tempdir()?;
        let (stub, upstream, port) =
            (Stub::start(directory.path()).await?, Upstream::start().await?, ports::free()?);
        let mut assembly = Assembly::new(Options {
            bind_address: "127.0.0.1".to_owned(),
            layout: Layout::ScopedRoutes,
            agent_cluster: AGENT_CLUSTER.to_owned(),
            upstreams: Upstreams {
                networks: Networks::allowing(network::parse("127.0.0.1").as_slice()),
                ..Default::default()
            },
            door: Default::default(),
            tells_hosts: false,
        });
        let listener = pb::Listener {
            name: "http".to_owned(),
            port: u32::from(port),
            protocol: pb::listener::Protocol::Http.into(),
            hostname: String::new(),
        };
        let gateway = pb::Gateway {
            id: GATEWAY.to_owned(),
            tenant_id: GATEWAY.to_owned(),
            name: "public".to_owned(),
            gateway_class: "envoy-gateway".to_owned(),
            listeners: vec![listener],
            settings: None,
        };
        let delta = assembly.set_gateway(ir::Gateway::parse(&gateway)?);
        stub.push(delta.all.upserts);
        let envoy = Envoy::start(directory.path(), "floor", stub.socket(), workers).await?;
        Ok(Self { probes: None, envoy, stub, upstream, assembly, port, barrier, directory })
    }

    /// Makes the first publish and connects to each worker.
    pub async fn attach(&mut self, workers: u32) -> Result<()> {
        let (clusters, scopes) = self.render(0)?;
        self.stub.push(clusters);
        self.stub.push(scopes);
        let gateway = ports::local(self.port);
        eventually("the floor's first publish", PATIENCE, async || {
            let answer = crate::edge::call(gateway, &host(0), "/", &[]).await.ok();
            Ok(answer.filter(|answer| answer.status == 200))
        })
        .await
        .with_context(|| self.envoy.last_words())?;
        self.probes = Some(Probes::open(&self.envoy.admin(), gateway, workers).await?);
        Ok(())
    }

    /// Makes a publish and measures it.
    pub async fn publish(&mut self, index: usize) -> Result<Timing> {
        let (clusters, scopes) = self.render(index)?;
        let probes = self.probes.as_ref().context("not attached")?;
        let watch = probes.watch(&host(index));
        let sent = Instant::now();
        self.push(clusters, scopes).await?;
        let served = milliseconds(watch.served().await?.saturating_duration_since(sent));
        Ok(Timing { from_post: served, from_commit: served, to_commit: 0.0 })
    }

    async fn push(&self, clusters: Vec<Rendered>, scopes: Vec<Rendered>) -> Result<()> {
        let nonce = self.stub.push(clusters);
        if self.barrier {
            self.stub.acked(nonce).await?;
        }
        self.stub.push(scopes);
        Ok(())
    }

    /// Counts the bytes of one publish to Envoy, through a proxy.
    pub async fn bytes(&mut self, range: std::ops::Range<usize>, workers: u32) -> Result<Bytes> {
        let socket = self.directory.path().join("counting.sock");
        let counting = Counting::between(&socket, self.stub.socket()).await?;
        self.probes = None;
        self.envoy.kill();
        self.envoy = Envoy::start(self.directory.path(), "floor-counted", &socket, workers).await?;
        let gateway = ports::local(self.port);
        let count = range.len().max(1) as f64;
        let serves = async |index: usize| {
            eventually("a counted publish", PATIENCE, async || {
                let answer = crate::edge::call(gateway, &host(index), "/", &[]).await.ok();
                Ok(answer.filter(|answer| answer.status == 200))
            })
            .await
        };
        serves(0).await?;
        let before = counting.down();
        for index in range {
            let (clusters, scopes) = self.render(index)?;
            self.stub.push(clusters);
            let nonce = self.stub.push(scopes);
            self.stub.acked(nonce).await?;
        }
        Ok(Bytes { to_agent: 0.0, to_envoy: (counting.down() - before) as f64 / count })
    }

    /// Renders the same publish as ours, as the agent would: clusters and scopes.
    fn render(&mut self, index: usize) -> Result<(Vec<Rendered>, Vec<Rendered>)> {
        let publish = publish(index, self.upstream.address());
        let delta = self.assembly.set_publish(ir::Publish::parse(&publish)?);
        let of = |type_url: &str| {
            let upserts = delta.all.upserts.iter();
            upserts.filter(|rendered| rendered.type_url == type_url).cloned().collect()
        };
        Ok((of(CLUSTER), of(SCOPE)))
    }
}

fn id(kind: u8, index: usize) -> String {
    format!("00000000-0000-7000-80{kind:02x}-{index:012x}")
}

fn publish(index: usize, upstream: std::net::SocketAddr) -> pb::Publish {
    let label = format!("p{index}");
    let backend = pb::Backend {
        id: id(1, index),
        name: "upstream".to_owned(),
        endpoints: vec![pb::Endpoint {
            host: upstream.ip().to_string(),
            port: u32::from(upstream.port()),
            weight: 1,
        }],
        protocol: pb::backend::Protocol::Http1.into(),
        lb_policy: pb::backend::LbPolicy::RoundRobin.into(),
        connect_timeout_ms: connect_timeout_ms(index),
        ..Default::default()
    };
    let edition = pb::Header { name: "x-edition".to_owned(), value: label.clone() };
    let headers = pb::Headers { set: vec![edition], ..Default::default() };
    let policy =
        pb::Policy { id: id(2, index), kind: Some(pb::policy::Kind::ResponseHeaders(headers)) };
    let route = pb::Route {
        id: id(3, index),
        name: "all".to_owned(),
        path: Some(pb::PathMatch { kind: Some(pb::path_match::Kind::Prefix("/".to_owned())) }),
        backends: vec![pb::WeightedBackend { backend_id: id(1, index), weight: 1 }],
        ..Default::default()
    };
    let service = pb::ApiService {
        id: id(4, index),
        name: label,
        routes: vec![route],
        backends: vec![backend],
        policies: vec![policy],
    };
    pb::Publish {
        id: id(5, index),
        tenant_id: GATEWAY.to_owned(),
        product_id: id(6, index),
        gateway_id: GATEWAY.to_owned(),
        environment: "prod".to_owned(),
        auth_mode: pb::publish::AuthMode::None.into(),
        hostnames: vec![host(index)],
        base_path: "/".to_owned(),
        revision: 1,
        suspended: false,
        api_services: vec![service],
        policies: Vec::new(),
        key_header: String::new(),
        key_query: String::new(),
        kept_out_hosts: Vec::new(),
        delivery: 0,
    }
}
