//! Which clusters Envoy takes as it took another one.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3::lb_endpoint::HostIdentifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, LbEndpoint};
use prost::Message;

/// The shape of an encoded cluster: all of it but its name, addresses, ports and timeout. Envoy adds one whose shape it
/// has taken before while it handles the message, so that the next message may refer to it. `None` if it may
/// refuse it nevertheless, or takes time: names are resolved, endpoints are checked, certificates are read.
pub fn shape(cluster: &[u8]) -> Option<u64> {
    let mut cluster = Cluster::decode(cluster).ok()?;
    let of_addresses = ClusterDiscoveryType::Type(DiscoveryType::Static.into());
    if cluster.cluster_discovery_type != Some(of_addresses)
        || !cluster.health_checks.is_empty()
        || cluster.transport_socket.is_some()
        || !cluster.transport_socket_matches.is_empty()
    {
        return None;
    }
    cluster.name.clear();
    cluster.connect_timeout.take().filter(|time| time.seconds > 0 || time.nanos > 0)?;
    clear_addresses(cluster.load_assignment.as_mut()?)?;
    let mut hasher = DefaultHasher::new();
    cluster.encode_to_vec().hash(&mut hasher);
    Some(hasher.finish())
}

/// `None` if one is no address and port.
fn clear_addresses(assignment: &mut ClusterLoadAssignment) -> Option<()> {
    assignment.cluster_name.clear();
    let localities = assignment.endpoints.iter_mut();
    localities.flat_map(|locality| &mut locality.lb_endpoints).try_for_each(clear_address)
}

fn clear_address(endpoint: &mut LbEndpoint) -> Option<()> {
    let HostIdentifier::Endpoint(endpoint) = endpoint.host_identifier.as_mut()? else {
        return None;
    };
    let Address::SocketAddress(address) = endpoint.address.as_mut()?.address.as_mut()? else {
        return None;
    };
    let port = address.port_specifier.take()?;
    let is_port = matches!(port, PortSpecifier::PortValue(1..=65_535));
    let text = std::mem::take(&mut address.address);
    (is_port && text.parse::<IpAddr>().is_ok()).then_some(())
}
