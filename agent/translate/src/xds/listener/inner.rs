//! The listener behind somebody else's: an internal listener, to which a virtual host of theirs leads. Calls
//! have passed their connection manager, so connections are that Envoy's own, and who calls is what theirs says.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as envoy;
use envoy_types::pb::envoy::extensions::filters::http::on_demand::v3 as on_demand;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::Duration;
use hcm::http_connection_manager::RouteSpecifier;
use hcm::http_filter::ConfigType;

use super::{chain, connection_manager, early, scoped_routes};
use crate::ir::Edge;
use crate::xds::canon::{agent, milliseconds, truth, uint};
use crate::xds::{Options, filter};

/// How long that Envoy waits for the agent before it opens its ports, those of others included.
const LONGEST_WARMING: Duration = Duration { seconds: 3, nanos: 0 };

/// The first call that a cluster is needed for waits so long for it.
const CLUSTER_TIMEOUT: Duration = Duration { seconds: 5, nanos: 0 };

/// Longer than the outer side keeps connections, so that none is closed under a call.
const IDLE_MS: u32 = 3_600_000;

/// The internal listener for what is served at this port of the gateway.
pub(crate) fn inner(name: &str, port: u16, edge: &Edge, options: &Options) -> envoy::Listener {
    use envoy::listener::{InternalListenerConfig, ListenerSpecifier};
    envoy::Listener {
        name: name.to_owned(),
        listener_specifier: Some(ListenerSpecifier::InternalListener(
            InternalListenerConfig::default(),
        )),
        per_connection_buffer_limit_bytes: uint(32_768),
        filter_chains: vec![chain(&manager(port, edge, options), false)],
        ..Default::default()
    }
}

fn manager(port: u16, edge: &Edge, options: &Options) -> hcm::HttpConnectionManager {
    let usual = connection_manager(port, edge, options, None);
    let source = agent(&options.agent_cluster, Some(LONGEST_WARMING));
    let filters = usual.http_filters.into_iter().map(|filter| by_the_agent(filter, &source));
    let on_demand = filter::ON_DEMAND.fixed(&clusters_on_demand(&options.agent_cluster));
    hcm::HttpConnectionManager {
        stat_prefix: format!("inner_{port}"),
        route_specifier: Some(RouteSpecifier::ScopedRoutes(scoped_routes(source.clone()))),
        // First: it begins a call again when its cluster has come.
        http_filters: [on_demand].into_iter().chain(filters).collect(),
        early_header_mutation_extensions: early::mutations(port, edge, None, edge.trusted_hops + 1),
        // The last address that the outer side wrote, or what it says of those who wrote before.
        use_remote_address: truth(false),
        xff_num_trusted_hops: edge.trusted_hops,
        preserve_external_request_id: true,
        common_http_protocol_options: usual.common_http_protocol_options.map(|of_callers| {
            core::HttpProtocolOptions {
                idle_timeout: milliseconds(IDLE_MS),
                max_connection_duration: None,
                max_requests_per_connection: None,
                ..of_callers
            }
        }),
        // Calls of others are on the same connection.
        stream_error_on_invalid_http_message: truth(true),
        http_protocol_options: usual
            .http_protocol_options
            .map(|of_callers| core::Http1ProtocolOptions { accept_http_10: false, ..of_callers }),
        ..usual
    }
}

/// Enforcement comes from the agent. Each other slot would be one more stream, so they have what serves until
/// something comes.
fn by_the_agent(
    mut filter: hcm::HttpFilter,
    source: &Option<core::ConfigSource>,
) -> hcm::HttpFilter {
    let is_door = filter.name == filter::DOOR.name();
    filter.config_type = match filter.config_type.take() {
        Some(ConfigType::ConfigDiscovery(mut slot)) if is_door => {
            slot.config_source.clone_from(source);
            Some(ConfigType::ConfigDiscovery(slot))
        }
        Some(ConfigType::ConfigDiscovery(slot)) => slot.default_config.map(ConfigType::TypedConfig),
        other => other,
    };
    filter
}

fn clusters_on_demand(agent_cluster: &str) -> on_demand::OnDemand {
    let odcds = on_demand::OnDemandCds {
        source: agent(agent_cluster, Some(CLUSTER_TIMEOUT)),
        timeout: Some(CLUSTER_TIMEOUT),
        ..Default::default()
    };
    on_demand::OnDemand { odcds: Some(odcds) }
}
