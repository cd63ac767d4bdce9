//! R1: both protocols, aggregated and per type, over sockets.

use std::time::Duration;

use imp_xds::wire::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node,
    Status,
};
use imp_xds::{ServerConfig, TypeRules};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::peer::{A, config, put, remove, resource_set};
use crate::support::{Running, until};

/// A call of one method: requests in, responses out.
struct Call<Q, R> {
    requests: mpsc::Sender<Q>,
    responses: Streaming<R>,
}

impl<Q, R> Call<Q, R>
where
    Q: prost::Message + 'static,
    R: prost::Message + Default + 'static,
{
    async fn open(running: &Running, path: &str) -> Result<Self, tonic::Status> {
        let mut grpc = tonic::client::Grpc::new(running.channel().await);
        grpc.ready().await.expect("ready");
        let (requests, outbound) = mpsc::channel(8);
        let codec: tonic_prost::ProstCodec<Q, R> = tonic_prost::ProstCodec::default();
        let path = path.parse().expect("a path");
        let request = tonic::Request::new(ReceiverStream::new(outbound));
        let responses = grpc.streaming(request, path, codec).await?.into_inner();
        Ok(Self { requests, responses })
    }

    async fn send(&self, request: Q) {
        self.requests.send(request).await.expect("sent");
    }

    async fn next(&mut self) -> Result<R, tonic::Status> {
        let next = tokio::time::timeout(Duration::from_secs(20), self.responses.message()).await;
        Ok(next.expect("something comes")?.expect("a response"))
    }
}

type Delta = Call<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
type List = Call<DiscoveryRequest, DiscoveryResponse>;

fn node() -> Option<Node> {
    Some(Node { id: "node".to_owned(), ..Node::default() })
}

const SERVICES: &[(&str, &str, &str, &str)] = &[
    ("cluster.v3.Cluster", "DeltaClusters", "StreamClusters", "config.cluster.v3.Cluster"),
    (
        "endpoint.v3.Endpoint",
        "DeltaEndpoints",
        "StreamEndpoints",
        "config.endpoint.v3.ClusterLoadAssignment",
    ),
    ("listener.v3.Listener", "DeltaListeners", "StreamListeners", "config.listener.v3.Listener"),
    ("route.v3.Route", "DeltaRoutes", "StreamRoutes", "config.route.v3.RouteConfiguration"),
    (
        "route.v3.ScopedRoutes",
        "DeltaScopedRoutes",
        "StreamScopedRoutes",
        "config.route.v3.ScopedRouteConfiguration",
    ),
    ("route.v3.VirtualHost", "DeltaVirtualHosts", "", "config.route.v3.VirtualHost"),
    (
        "secret.v3.Secret",
        "DeltaSecrets",
        "StreamSecrets",
        "extensions.transport_sockets.tls.v3.Secret",
    ),
    ("runtime.v3.Runtime", "DeltaRuntime", "StreamRuntime", "service.runtime.v3.Runtime"),
    (
        "extension.v3.ExtensionConfig",
        "DeltaExtensionConfigs",
        "StreamExtensionConfigs",
        "config.core.v3.TypedExtensionConfig",
    ),
];

#[tokio::test]
async fn r1_each_type_has_its_services_and_they_know_their_type() {
    let url = |name: &str| format!("type.googleapis.com/envoy.{name}");
    let all: Vec<_> = SERVICES.iter().map(|(.., name)| url(name)).collect();
    let resources: Vec<_> = all.iter().map(|url| (url.as_str(), "x", "1")).collect();
    let rules = all.iter().map(|url| TypeRules::new(url.as_str(), 0)).collect();
    let running = Running::start(resource_set(&resources), ServerConfig::new(rules)).await;
    for (service, delta, list, name) in SERVICES {
        let path = |method: &str| format!("/envoy.service.{service}DiscoveryService/{method}");
        let mut call = Delta::open(&running, &path(delta)).await.expect(delta);
        call.send(DeltaDiscoveryRequest { node: node(), ..Default::default() }).await;
        let response = call.next().await.expect(delta);
        assert_eq!((response.type_url, response.resources[0].name.as_str()), (url(name), "x"));
        if !list.is_empty() {
            let mut call = List::open(&running, &path(list)).await.expect(list);
            call.send(DiscoveryRequest { node: node(), ..Default::default() }).await;
            let response = call.next().await.expect(list);
            assert_eq!(
                (response.type_url, &response.resources[0].value[..]),
                (url(name), &b"x 1"[..])
            );
        }
    }
}

#[tokio::test]
async fn r4_the_service_of_one_type_refuses_another() {
    let running = Running::start(resource_set(&[(A, "a", "1")]), config()).await;
    let path = "/envoy.service.cluster.v3.ClusterDiscoveryService/DeltaClusters";
    let mut call = Delta::open(&running, path).await.expect("a stream");
    let other =
        DeltaDiscoveryRequest { node: node(), type_url: A.to_owned(), ..Default::default() };
    call.send(other).await;
    assert_eq!(call.next().await.expect_err("refused").code(), Code::InvalidArgument);
    let fetch = "/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters";
    let refused = Delta::open(&running, fetch).await.err().expect("REST is not served");
    assert_eq!(refused.code(), Code::Unimplemented);
}

#[tokio::test]
async fn the_state_of_the_world_is_followed_over_a_socket() {
    let mut rules = TypeRules::new(A, 0);
    rules.full_state = true;
    let config = ServerConfig { removal_grace: Duration::ZERO, ..ServerConfig::new(vec![rules]) };
    let running = Running::start(resource_set(&[(A, "a", "1"), (A, "b", "1")]), config).await;
    let path = "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";
    let mut call = List::open(&running, path).await.expect("a stream");
    let first = DiscoveryRequest { node: node(), type_url: A.to_owned(), ..Default::default() };
    call.send(first.clone()).await;
    let values = |response: &DiscoveryResponse| {
        let mut values: Vec<_> =
            response.resources.iter().map(|any| String::from_utf8_lossy(&any.value)).collect();
        values.sort();
        values.join(", ")
    };
    let answer = |response: &DiscoveryResponse, error_detail| DiscoveryRequest {
        version_info: response.version_info.clone(),
        type_url: A.to_owned(),
        response_nonce: response.nonce.clone(),
        error_detail,
        ..Default::default()
    };
    let response = call.next().await.expect("all");
    assert_eq!(values(&response), "a 1, b 1");
    call.send(answer(&response, None)).await;
    remove(&running.set, A, "a");
    let response = call.next().await.expect("what is left");
    assert_eq!(values(&response), "b 1");
    call.send(answer(&response, None)).await;
    put(&running.set, &[(A, "b", "2")]);
    let response = call.next().await.expect("the change");
    let error = Status { code: 13, message: "no".to_owned() };
    call.send(answer(&response, Some(error))).await;
    until("refused", || running.notes.all().contains(&"nacked b: no".to_owned())).await;
    // R33: go-control-plane answers a client that refuses thousands of times a second.
    let more = tokio::time::timeout(Duration::from_millis(200), call.responses.message()).await;
    assert!(more.is_err());
}
