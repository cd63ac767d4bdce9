//! The filter chain of the table ([`filter`]): fixed filters that do nothing without settings on a
//! route, and ECDS slots for filters that must be replaceable. Order and names are part of the
//! template; changing either updates the listeners of all gateways.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::common::mutation_rules::v3::header_mutation::Action;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::ratelimit::v3::RateLimitServiceConfig;
use envoy_types::pb::envoy::config::rbac::v3 as rbac_rules;
use envoy_types::pb::envoy::extensions::compression::gzip::compressor::v3::Gzip;
use envoy_types::pb::envoy::extensions::filters::http;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::http::cache::simple_http_cache::v3::SimpleHttpCacheConfig;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::Any;

use super::mutation::{mutation, removed, starts_with};
use crate::xds::Options;
use crate::xds::canon::{any, extension, inline, milliseconds, uint};
use crate::xds::door::{self, KEY_HEADER, envoy_grpc};
use crate::xds::filter;
use crate::xds::names::NO_DOOR;
use crate::xds::path::regex_matcher;
use crate::xds::upstreams::{self, Upstreams};
use crate::xds::{retry, rewrite};

/// The types that a general slot accepts.
const ANY: [&str; 23] = [
    "dynamic_modules.v3.DynamicModuleFilter",
    "ext_authz.v3.ExtAuthz",
    "ext_proc.v3.ExternalProcessor",
    "lua.v3.Lua",
    "jwt_authn.v3.JwtAuthentication",
    "rbac.v3.RBAC",
    "local_ratelimit.v3.LocalRateLimit",
    "ratelimit.v3.RateLimit",
    "header_mutation.v3.HeaderMutation",
    "api_key_auth.v3.ApiKeyAuth",
    "basic_auth.v3.BasicAuth",
    "oauth2.v3.OAuth2",
    "grpc_json_transcoder.v3.GrpcJsonTranscoder",
    "cache.v3.CacheConfig",
    "compressor.v3.Compressor",
    "bandwidth_limit.v3.BandwidthLimit",
    "set_metadata.v3.Config",
    "filter_chain.v3.FilterChainConfig",
    "composite.v3.Composite",
    "admission_control.v3.AdmissionControl",
    "adaptive_concurrency.v3.AdaptiveConcurrency",
    "transform.v3.TransformConfig",
    "custom_response.v3.CustomResponse",
];

/// The whole chain, in order.
pub(super) fn chain(options: &Options) -> Vec<hcm::HttpFilter> {
    let nothing = http::header_mutation::v3::HeaderMutation::default();
    let rbac = http::rbac::v3::Rbac::default();
    let jwt = http::jwt_authn::v3::JwtAuthentication::default();
    let limits = ["local_ratelimit.v3.LocalRateLimit", "dynamic_modules.v3.DynamicModuleFilter"];
    let caches = ["cache.v3.CacheConfig", "cache_v2.v3.CacheV2Config"];
    vec![
        filter::HEAD.slot(&ANY, &nothing),
        filter::CORS.fixed(&http::cors::v3::Cors {}),
        filter::IP.fixed(&rbac),
        filter::DOOR.slot_that_warms(&ANY, &nobody()),
        disabled(filter::OPEN.fixed(&door::open(&options.agent_cluster))),
        disabled(filter::API_KEY.fixed(&api_key())),
        disabled(filter::BASIC.fixed(&basic())),
        filter::JWT.slot(&["jwt_authn.v3.JwtAuthentication"], &jwt),
        filter::ENTITLE.fixed(&rbac),
        filter::LIMIT.slot(&limits, &local_limit()),
        disabled(filter::REMOTE_LIMIT.fixed(&remote_limit(&options.agent_cluster))),
        disabled(filter::SIZE.fixed(&buffer())),
        disabled(filter::VALIDATE.slot(&ANY, &nothing)),
        filter::HEADERS.fixed(&nothing),
        filter::FAULT.fixed(&http::fault::v3::HttpFault::default()),
        disabled(filter::COMPRESS.slot(&["compressor.v3.Compressor"], &compressor())),
        disabled(filter::CACHE.slot(&caches, &cache())),
        disabled(filter::GRPC_WEB.fixed(&http::grpc_web::v3::GrpcWeb {})),
        filter::TAIL.slot(&ANY, &nothing),
        filter::EDGE.fixed(&edge()),
        filter::ROUTER.fixed(&router(&options.upstreams)),
    ]
}

/// Sets the headers that every upstream or the router needs: here, once per listener, since Envoy would
/// compile their expressions for every route table. Removes headers of upstreams that only the gateway may
/// set. Removes callers' trailers: they arrive after all checks, and no supported protocol needs them.
fn edge() -> http::header_mutation::v3::HeaderMutation {
    let of_the_gateway = || ["x-imp-", "x-envoy-"].map(starts_with).to_vec();
    http::header_mutation::v3::HeaderMutation {
        mutations: Some(http::header_mutation::v3::Mutations {
            request_mutations: [retry::of_safe_methods(), rewrite::forwarded_port()]
                .map(|header| mutation(Action::Append(header)))
                .to_vec(),
            response_mutations: of_the_gateway(),
            response_trailers_mutations: of_the_gateway(),
            request_trailers_mutations: vec![removed(MatchPattern::SafeRegex(regex_matcher(
                ".+".to_owned(),
            )))],
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Disables a filter unless a route enables it.
fn disabled(mut filter: hcm::HttpFilter) -> hcm::HttpFilter {
    filter.disabled = true;
    filter
}

/// Refuses everyone if enforcement does not arrive. The policy's name tells the reply mapper why.
fn nobody() -> http::rbac::v3::Rbac {
    use rbac_rules::{permission, principal};
    let everyone = rbac_rules::Policy {
        permissions: vec![rbac_rules::Permission { rule: Some(permission::Rule::Any(true)) }],
        principals: vec![rbac_rules::Principal {
            identifier: Some(principal::Identifier::Any(true)),
        }],
        ..Default::default()
    };
    http::rbac::v3::Rbac {
        rules: Some(rbac_rules::Rbac {
            action: rbac_rules::rbac::Action::Deny.into(),
            policies: HashMap::from([(NO_DOOR.to_owned(), everyone)]),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn api_key() -> http::api_key_auth::v3::ApiKeyAuth {
    let source =
        http::api_key_auth::v3::KeySource { header: KEY_HEADER.to_owned(), ..Default::default() };
    http::api_key_auth::v3::ApiKeyAuth { key_sources: vec![source], ..Default::default() }
}

/// A list that must not be empty; no password hashes to this entry.
fn basic() -> http::basic_auth::v3::BasicAuth {
    let users = inline("nobody:{SHA}AAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    http::basic_auth::v3::BasicAuth { users: Some(users), ..Default::default() }
}

fn local_limit() -> http::local_ratelimit::v3::LocalRateLimit {
    http::local_ratelimit::v3::LocalRateLimit {
        stat_prefix: "imp_limit".to_owned(),
        ..Default::default()
    }
}

fn remote_limit(agent_cluster: &str) -> http::ratelimit::v3::RateLimit {
    let service = RateLimitServiceConfig {
        grpc_service: Some(core::GrpcService {
            target_specifier: Some(envoy_grpc(agent_cluster)),
            ..Default::default()
        }),
        transport_api_version: core::ApiVersion::V3.into(),
    };
    http::ratelimit::v3::RateLimit {
        domain: "imp".to_owned(),
        timeout: milliseconds(50),
        rate_limit_service: Some(service),
        ..Default::default()
    }
}

fn buffer() -> http::buffer::v3::Buffer {
    http::buffer::v3::Buffer { max_request_bytes: uint(1_048_576) }
}

fn compressor() -> http::compressor::v3::Compressor {
    use http::compressor::v3::compressor::{CommonDirectionConfig, ResponseDirectionConfig};
    let common = CommonDirectionConfig { min_content_length: uint(256), ..Default::default() };
    http::compressor::v3::Compressor {
        response_direction_config: Some(ResponseDirectionConfig {
            common_config: Some(common),
            ..Default::default()
        }),
        compressor_library: Some(extension("gzip", &Gzip::default())),
        ..Default::default()
    }
}

fn cache() -> http::cache::v3::CacheConfig {
    let store: Any = any(&SimpleHttpCacheConfig {});
    http::cache::v3::CacheConfig { typed_config: Some(store), ..Default::default() }
}

fn router(upstreams: &Upstreams) -> http::router::v3::Router {
    http::router::v3::Router {
        suppress_envoy_headers: true,
        upstream_http_filters: upstreams::filters(upstreams),
        ..Default::default()
    }
}
