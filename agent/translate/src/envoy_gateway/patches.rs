//! The EnvoyPatchPolicy: adds our listener, the cluster that reaches it and the virtual hosts that lead there. It
//! changes nothing that is Envoy Gateway's, unless the Gateway is dedicated: then its listeners get our connection
//! manager, too. What leads to us otherwise stays for the connections that were made before.

use std::collections::{BTreeSet, HashMap};

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as http;
use envoy_types::pb::google::protobuf::Duration;
use prost::Name;
use serde_json::{Value, json};

use super::attachment::Attachment;
use super::json::{NoJson, to_json};
use super::listeners::{Dedicated, Led};
use crate::Options;
use crate::ir::Edge;
use crate::xds::canon::{any, milliseconds, truth, uint};
use crate::xds::filter::THEIR_MANAGER;
use crate::xds::listener::dedicated::dedicated;
use crate::xds::listener::inner::inner;

/// The most bytes of hosts in a policy: an object must stay below 1.5 MB.
pub const MAX_HOST_BYTES: usize = 600_000;

/// Connections and calls between the two listeners of one Envoy.
const MANY: u32 = 1_000_000;

/// Calls on one of these connections, one after the other. Envoy ends a connection, with the call that is on it then, after 250
/// calls that were reset soon (half of 500, by default): a caller who resets calls must not come so far.
const CALLS_PER_CONNECTION: u32 = 240;

/// The policy. Without a host nothing leads to us yet, but the listener is there already.
pub fn policy(
    attachment: &Attachment,
    led: &[Led],
    owned: &[Dedicated],
    edge: &Edge,
    options: &Options,
) -> Result<Value, NoJson> {
    let ports: BTreeSet<u16> = led.iter().map(|led| led.port).collect();
    let mut patches = Vec::new();
    for port in ports {
        let name = name(port);
        patches.push(added(&name, &inner(&name, port, edge, options), "")?);
        patches.push(added(&name, &to_inner(&name), "")?);
    }
    for led in led.iter().filter(|led| !led.hosts.is_empty()) {
        let hosts = virtual_host(led);
        patches.push(patch::<route::RouteConfiguration>(
            &led.table,
            "/virtual_hosts/-",
            to_json(&hosts)?,
        ));
    }
    for own in owned {
        patches.push(connection_manager(own, edge, options)?);
    }
    Ok(json!({
        "apiVersion": "gateway.envoyproxy.io/v1alpha1",
        "kind": "EnvoyPatchPolicy",
        "metadata": attachment.metadata(),
        "spec": {
            "targetRef": {
                "group": "gateway.networking.k8s.io",
                "kind": "Gateway",
                "name": attachment.name,
            },
            "type": "JSONPatch",
            "jsonPatches": patches,
        },
    }))
}

/// The listener, and the cluster that reaches it.
fn name(port: u16) -> String {
    format!("imp/inner-{port}")
}

fn added<M: Name>(name: &str, message: &M, path: &str) -> Result<Value, NoJson> {
    Ok(patch::<M>(name, path, to_json(message)?))
}

fn patch<M: Name>(name: &str, path: &str, value: Value) -> Value {
    json!({
        "type": M::type_url(),
        "name": name,
        "operation": {"op": "add", "path": path, "value": value},
    })
}

/// Replaces the connection managers of a Listener: those of all its filter chains, which keep their TLS.
fn connection_manager(own: &Dedicated, edge: &Edge, options: &Options) -> Result<Value, NoJson> {
    let mut chain = to_json(&dedicated(own.port, edge, options))?;
    let ours = chain.pointer_mut("/filters/0/typed_config").map(Value::take);
    let mut patch = patch::<listener::Listener>(&own.listener, "/typed_config", json!(ours));
    patch["operation"]["op"] = "replace".into();
    let managers = format!("..filters[?(@.name==\"{THEIR_MANAGER}\")]");
    patch["operation"]["jsonPath"] = managers.into();
    Ok(patch)
}

fn to_inner(name: &str) -> cluster::Cluster {
    use cluster::cluster::{ClusterDiscoveryType, DiscoveryType};
    let address = core::EnvoyInternalAddress {
        address_name_specifier: Some(
            core::envoy_internal_address::AddressNameSpecifier::ServerListenerName(name.to_owned()),
        ),
        endpoint_id: "imp".to_owned(),
    };
    let endpoint = endpoint::Endpoint {
        address: Some(core::Address {
            address: Some(core::address::Address::EnvoyInternalAddress(address)),
        }),
        ..Default::default()
    };
    let host = endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint);
    let hosts = endpoint::LocalityLbEndpoints {
        lb_endpoints: vec![endpoint::LbEndpoint {
            host_identifier: Some(host),
            ..Default::default()
        }],
        ..Default::default()
    };
    cluster::Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        connect_timeout: milliseconds(1_000),
        load_assignment: Some(endpoint::ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![hosts],
            ..Default::default()
        }),
        circuit_breakers: Some(unlimited()),
        typed_extension_protocol_options: HashMap::from([(
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions".to_owned(),
            any(&as_the_caller()),
        )]),
        ..Default::default()
    }
}

/// Callers are limited by the outer listener, backends by their own clusters.
fn unlimited() -> cluster::CircuitBreakers {
    let thresholds = cluster::circuit_breakers::Thresholds {
        max_connections: uint(MANY),
        max_pending_requests: uint(MANY),
        max_requests: uint(MANY),
        max_retries: uint(MANY),
        ..Default::default()
    };
    cluster::CircuitBreakers { thresholds: vec![thresholds], ..Default::default() }
}

/// In the caller's own protocol, so that upgrades and gRPC pass. Connections end before the inner side would end them, and
/// carry one call at a time: callers that do not read, reset their calls or send what nobody takes would hold up or end those of
/// others on the same connection.
fn as_the_caller() -> http::HttpProtocolOptions {
    use http::http_protocol_options::{UpstreamProtocolOptions, UseDownstreamHttpConfig};
    let one_call =
        core::Http2ProtocolOptions { max_concurrent_streams: uint(1), ..Default::default() };
    let same = UseDownstreamHttpConfig {
        http_protocol_options: Some(core::Http1ProtocolOptions::default()),
        http2_protocol_options: Some(one_call),
        ..Default::default()
    };
    http::HttpProtocolOptions {
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            idle_timeout: milliseconds(30_000),
            max_requests_per_connection: uint(CALLS_PER_CONNECTION),
            ..Default::default()
        }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(same)),
        ..Default::default()
    }
}

/// Every path of these hosts. How long a call may take is said inside.
fn virtual_host(led: &Led) -> route::VirtualHost {
    use route::route::Action;
    use route::route_action::{ClusterSpecifier, UpgradeConfig};
    let allowed = |protocol: &String| UpgradeConfig {
        upgrade_type: protocol.clone(),
        enabled: truth(true),
        ..Default::default()
    };
    let action = route::RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(name(led.port))),
        timeout: Some(Duration::default()),
        idle_timeout: Some(Duration::default()),
        upgrade_configs: led.upgrades.iter().map(allowed).collect(),
        ..Default::default()
    };
    let all = route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".to_owned())),
        ..Default::default()
    };
    route::VirtualHost {
        name: "imp".to_owned(),
        domains: led.hosts.iter().cloned().collect(),
        routes: vec![route::Route {
            r#match: Some(all),
            action: Some(Action::Route(action)),
            ..Default::default()
        }],
        ..Default::default()
    }
}
