//! Calls without a total limit, and what they may upgrade to.

use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::google::protobuf::Duration;

use super::canon::{milliseconds, truth};
use super::listener::IDLE_MS;
use crate::ir;

/// The limits of a route's calls: in all, and of silence.
pub(super) fn limits(route: &ir::Route) -> (Option<Duration>, Option<Duration>) {
    match &route.stream {
        Some(stream) => (milliseconds(0), milliseconds(stream.idle_ms)),
        // A call that may take longer than the listener lets a stream be silent.
        None if route.timeout_ms > IDLE_MS => {
            (milliseconds(route.timeout_ms), milliseconds(route.timeout_ms))
        }
        None => (milliseconds(route.timeout_ms), None),
    }
}

/// Envoy judges an upgraded call once, as it begins, like any other. Towards HTTP/2 there is no upgrade.
pub(super) fn upgrades(route: &ir::Route) -> Vec<envoy::route_action::UpgradeConfig> {
    let http1 = route.backends.iter().all(|backend| !backend.backend.http2);
    let stream = route.stream.iter().filter(|_| http1);
    let allowed = |protocol: &String| envoy::route_action::UpgradeConfig {
        upgrade_type: protocol.clone(),
        enabled: truth(true),
        ..Default::default()
    };
    stream.flat_map(|stream| stream.upgrades.iter().map(allowed)).collect()
}
