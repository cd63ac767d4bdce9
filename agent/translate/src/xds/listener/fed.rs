//! A connection manager of an Envoy whose aggregated stream is somebody else's: scopes, enforcement and clusters come from
//! the agent, each by a stream of its own.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::http::on_demand::v3 as on_demand;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::Duration;
use hcm::http_connection_manager::RouteSpecifier;
use hcm::http_filter::ConfigType;

use super::scoped_routes;
use crate::xds::canon::agent;
use crate::xds::filter;

/// The first call that a cluster is needed for waits so long for it.
const CLUSTER_TIMEOUT: Duration = Duration { seconds: 5, nanos: 0 };

/// `warming` is how long the listener waits for the agent before it opens: `None` as long as Envoy does by itself.
pub(super) fn by_the_agent(
    usual: hcm::HttpConnectionManager,
    cluster: &str,
    warming: Option<Duration>,
) -> hcm::HttpConnectionManager {
    let source = agent(cluster, warming);
    let filters = usual.http_filters.into_iter().map(|filter| with_source(filter, &source));
    let on_demand = filter::ON_DEMAND.fixed(&clusters_on_demand(cluster));
    hcm::HttpConnectionManager {
        // First: it begins a call again when its cluster has come.
        http_filters: [on_demand].into_iter().chain(filters).collect(),
        route_specifier: Some(RouteSpecifier::ScopedRoutes(scoped_routes(source))),
        ..usual
    }
}

/// Enforcement comes from the agent. Each other slot would be one more stream, so they have what serves until
/// something comes.
fn with_source(
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
