//! Calls without a total time limit, and upgrades.

use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::google::protobuf::Duration;

use super::canon::{milliseconds, truth};
use super::listener::IDLE_MS;
use crate::ir;

/// The time limits of a route's calls: total, and idle.
pub(super) fn limits(route: &ir::Route) -> (Option<Duration>, Option<Duration>) {
    match &route.stream {
        Some(stream) => (milliseconds(0), milliseconds(stream.idle_ms)),
        // The call may take longer than the listener's idle limit.
        None if route.timeout_ms > IDLE_MS => {
            (milliseconds(route.timeout_ms), milliseconds(route.timeout_ms))
        }
        None => (milliseconds(route.timeout_ms), None),
    }
}

/// Envoy checks an upgraded call once, when it begins, like any other. HTTP/2 backends have no
/// upgrades.
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
