//! The door: who may pass. Its place in the listener is an ECDS slot, so what stands in it can be
//! replaced without touching the listener: the agent's ext_authz service now, the module inside
//! Envoy later.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as authz;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use prost::Message;

use super::canon::milliseconds;
use super::{EXTENSION, Rendered, filter};

/// The credential. The door reads it, and it never reaches an upstream.
pub const KEY_HEADER: &str = "x-api-key";

/// What a route says of itself to the door: keys of `context_extensions`.
pub mod context {
    /// The publish.
    pub const PUBLISH: &str = "publish";
    /// The route.
    pub const ROUTE: &str = "route";
    /// The digest of the access rules of the revision that the route is of.
    pub const ACCESS: &str = "access";
}

/// A call waits this long for a decision. The first call of each worker connects first; a stalled
/// agent must still not hold a call for long.
const TIMEOUT_MS: u32 = 500;

/// The filter in the door's slot: calls the agent; closed when the agent does not answer.
pub fn render(agent_cluster: &str) -> Rendered {
    let filter = authz::ExtAuthz {
        services: Some(authz::ext_authz::Services::GrpcService(core::GrpcService {
            target_specifier: Some(envoy_grpc(agent_cluster)),
            timeout: milliseconds(TIMEOUT_MS),
            ..Default::default()
        })),
        transport_api_version: core::ApiVersion::V3.into(),
        failure_mode_allow: false,
        status_on_error: Some(HttpStatus { code: 503 }),
        // A new route after the filter chain was built would leave filters out.
        clear_route_cache: false,
        allowed_headers: Some(headers(&[
            KEY_HEADER,
            "authorization",
            "content-type",
            "x-request-id",
        ])),
        stat_prefix: "imp_door".to_owned(),
        ..Default::default()
    };
    let resource = filter::DOOR.resource(&filter);
    Rendered::new(EXTENSION, resource.name.clone(), resource.encode_to_vec())
}

pub(super) fn envoy_grpc(cluster: &str) -> core::grpc_service::TargetSpecifier {
    core::grpc_service::TargetSpecifier::EnvoyGrpc(core::grpc_service::EnvoyGrpc {
        cluster_name: cluster.to_owned(),
        ..Default::default()
    })
}

fn headers(names: &[&str]) -> matcher::ListStringMatcher {
    let exact = |name: &&str| matcher::StringMatcher {
        match_pattern: Some(matcher::string_matcher::MatchPattern::Exact((*name).to_owned())),
        ignore_case: true,
    };
    matcher::ListStringMatcher { patterns: names.iter().map(exact).collect() }
}
