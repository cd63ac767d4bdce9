//! Clusters: one per tenant and distinct backend. The name is a hash of both. Equal backends of a tenant
//! share a cluster; those of two tenants do not, so that none acts on the health, the limits or the retries of
//! another's calls. A changed backend is a new cluster beside the old one, and no cluster is ever
//! modified (which would warm it while routes point at it).

mod shape;

use std::collections::HashMap;

use envoy_types::pb::envoy::config::cluster::v3 as envoy;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as http;
use envoy_types::pb::envoy::r#type::v3::Percent;
use prost::Message;

use super::canon::{any, hash, milliseconds, socket_address, uint};
use super::upstreams::{self, Upstreams};
use super::{CLUSTER, Rendered, health, tls};
use crate::ir;

pub use shape::shape;

/// Envoy's own default of 1,024 is meant for a sidecar; a shared gateway needs more, and still a
/// bound.
const MAX_CONCURRENT: u32 = 10_000;
/// Concurrent retries: a percentage of the calls in flight, with a minimum.
const RETRIES_PERCENT: f64 = 25.0;
const MIN_RETRIES: u32 = 100;
/// As on the listener's side: Envoy must not buffer everything for a slow reader.
const BUFFER_BYTES: u32 = 32_768;
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Renders the cluster of a tenant's backend.
pub fn render(tenant: &str, backend: &ir::Backend, upstreams: &Upstreams) -> Rendered {
    let mut cluster = body(backend, upstreams);
    let mut identity = tenant.to_owned().encode_length_delimited_to_vec();
    identity.extend(cluster.encode_to_vec());
    let name = format!("c-{}", hash(&identity));
    cluster.name.clone_from(&name);
    if let Some(assignment) = &mut cluster.load_assignment {
        assignment.cluster_name.clone_from(&name);
    }
    Rendered::new(CLUSTER, name, cluster.encode_to_vec())
}

fn body(backend: &ir::Backend, upstreams: &Upstreams) -> envoy::Cluster {
    use envoy::cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily, LbPolicy};
    let named = |endpoint: &ir::Endpoint| matches!(endpoint.host, ir::EndpointHost::Name(_));
    let resolved = !backend.endpoints.iter().any(named);
    let discovery = if resolved { DiscoveryType::Static } else { DiscoveryType::StrictDns };
    let balance = match backend.balance {
        ir::Balance::RoundRobin => LbPolicy::RoundRobin,
        ir::Balance::LeastRequest => LbPolicy::LeastRequest,
        ir::Balance::Random => LbPolicy::Random,
    };
    let family = if resolved { DnsLookupFamily::Auto } else { DnsLookupFamily::V4Preferred };
    #[expect(deprecated, reason = "its successor, the dns cluster type, is younger than 1.38")]
    envoy::Cluster {
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        connect_timeout: milliseconds(backend.connect_timeout_ms),
        lb_policy: balance.into(),
        dns_lookup_family: family.into(),
        respect_dns_ttl: !resolved,
        typed_dns_resolver_config: upstreams::resolver(upstreams).filter(|_| !resolved),
        load_assignment: Some(assignment(&backend.endpoints)),
        circuit_breakers: Some(circuit_breakers()),
        per_connection_buffer_limit_bytes: uint(BUFFER_BYTES),
        typed_extension_protocol_options: protocol_options(backend.http2),
        common_lb_config: health::lb_config(backend),
        outlier_detection: health::outlier_detection(backend),
        health_checks: health::checks(backend, upstreams),
        transport_socket: tls::socket(backend, upstreams),
        ..Default::default()
    }
}

fn assignment(endpoints: &[ir::Endpoint]) -> endpoint::ClusterLoadAssignment {
    let lb_endpoints = endpoints.iter().map(lb_endpoint).collect();
    endpoint::ClusterLoadAssignment {
        endpoints: vec![endpoint::LocalityLbEndpoints { lb_endpoints, ..Default::default() }],
        ..Default::default()
    }
}

fn lb_endpoint(from: &ir::Endpoint) -> endpoint::LbEndpoint {
    let address = match &from.host {
        ir::EndpointHost::Address(address) => address.to_string(),
        ir::EndpointHost::Name(name) => name.clone(),
    };
    let to = endpoint::Endpoint {
        address: Some(socket_address(address, from.port)),
        ..Default::default()
    };
    endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(to)),
        load_balancing_weight: uint(from.weight),
        ..Default::default()
    }
}

fn circuit_breakers() -> envoy::CircuitBreakers {
    let thresholds = envoy::circuit_breakers::Thresholds {
        max_connections: uint(MAX_CONCURRENT),
        max_pending_requests: uint(MAX_CONCURRENT),
        max_requests: uint(MAX_CONCURRENT),
        retry_budget: Some(envoy::circuit_breakers::thresholds::RetryBudget {
            budget_percent: Some(Percent { value: RETRIES_PERCENT }),
            min_retry_concurrency: uint(MIN_RETRIES),
            ..Default::default()
        }),
        ..Default::default()
    };
    envoy::CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}

fn protocol_options(http2: bool) -> HashMap<String, envoy_types::pb::google::protobuf::Any> {
    use http::http_protocol_options::explicit_http_config::ProtocolConfig;
    use http::http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions};
    let protocol = if http2 {
        ProtocolConfig::Http2ProtocolOptions(core::Http2ProtocolOptions {
            initial_stream_window_size: uint(65_536),
            initial_connection_window_size: uint(1_048_576),
            ..Default::default()
        })
    } else {
        ProtocolConfig::HttpProtocolOptions(core::Http1ProtocolOptions::default())
    };
    let options = http::HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(
            ExplicitHttpConfig { protocol_config: Some(protocol) },
        )),
        ..Default::default()
    };
    HashMap::from([(HTTP_OPTIONS.to_owned(), any(&options))])
}
