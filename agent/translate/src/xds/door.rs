//! Enforcement: which calls may pass. Its place in the listener is an ECDS slot, so its filter can
//! be replaced without touching the listener: the agent's ext_authz service, or a module inside
//! Envoy.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::dynamic_modules::v3 as modules;
use envoy_types::pb::envoy::extensions::filters::http::dynamic_modules::v3::DynamicModuleFilter;
use envoy_types::pb::envoy::extensions::filters::http::ext_authz::v3 as authz;
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::envoy::r#type::v3::HttpStatus;
use envoy_types::pb::google::protobuf::StringValue;
use imp_grammar::headers::KEY_WORDS;
use prost::Message;

use super::canon::{any, extension, milliseconds, uint};
use super::names::KEY_HOST;
use super::{Door, EXTENSION, Module, Options, Rendered, filter};

/// The credential's header. The agent reads it, and it never reaches an upstream.
pub const KEY_HEADER: &str = imp_grammar::headers::CREDENTIAL;

/// What a route tells of itself: keys of `context_extensions`, and of the metadata that the module
/// reads, whose namespace is the name of the filter.
pub mod context {
    /// The digest of the access rules, the route's id and the base path, with a space after each of
    /// the first two. From a release before this one: the route's id alone.
    pub const ROUTE: &str = "route";
    /// Where callers may send their key besides [`super::KEY_HEADER`]: a header, `?`, a query
    /// parameter. Absent if nowhere.
    pub const KEYS: &str = "keys";
}

/// How long a call waits for a decision: as long as a restart of the agent may take, so that
/// callers do not notice it. If there is a second agent, it answers meanwhile.
const HOLD_MS: u32 = 5_000;

/// Retries within [`HOLD_MS`], 0.1 s apart on average: more than fit.
const RETRIES: u32 = 200;

/// How long a call that needs no decision waits for being counted.
const COUNT_MS: u32 = 200;

/// The filter for enforcement.
pub(super) fn render(options: &Options) -> Rendered {
    match &options.door {
        Door::ExtAuthz | Door::AfterModule => ext_authz(&options.agent_cluster),
        Door::Module(module) => {
            let plain = Some(ext_authz(&options.agent_cluster).into());
            Rendered { plain, ..inside(module) }
        }
    }
}

/// The module inside Envoy. Only a local file: Envoy opens the listener without a filter that it cannot
/// fetch.
fn inside(module: &Module) -> Rendered {
    let config = format!("{{\"state\":{}}}", module.state);
    let filter = DynamicModuleFilter {
        dynamic_module_config: Some(library(module)),
        filter_name: "door".to_owned(),
        filter_config: Some(any(&StringValue { value: config })),
        ..Default::default()
    };
    let resource = extension(filter::DOOR.name(), &filter);
    Rendered::new(EXTENSION, resource.name.clone(), resource.encode_to_vec())
}

/// The library, as a local file.
pub(super) fn library(module: &Module) -> modules::DynamicModuleConfig {
    let file = core::DataSource {
        specifier: Some(core::data_source::Specifier::Filename(module.file.clone())),
        ..Default::default()
    };
    let source = core::async_data_source::Specifier::Local(file);
    modules::DynamicModuleConfig {
        module: Some(core::AsyncDataSource { specifier: Some(source) }),
        do_not_close: true,
        ..Default::default()
    }
}

/// Calls the agent, and fails closed when the agent does not answer.
fn ext_authz(agent_cluster: &str) -> Rendered {
    let filter = authz::ExtAuthz {
        failure_mode_allow: false,
        status_on_error: Some(HttpStatus { code: 503 }),
        ..asking(agent_cluster, HOLD_MS, Some(held()), "imp_door")
    };
    let resource = filter::DOOR.resource(&filter);
    Rendered::new(EXTENSION, resource.name.clone(), resource.encode_to_vec())
}

/// Replaces enforcement on routes that anybody may call without a limit: the agent counts these
/// calls, and they pass without it.
pub(super) fn open(agent_cluster: &str) -> authz::ExtAuthz {
    authz::ExtAuthz {
        failure_mode_allow: true,
        ..asking(agent_cluster, COUNT_MS, None, "imp_open")
    }
}

fn asking(
    agent_cluster: &str,
    timeout_ms: u32,
    retry_policy: Option<core::RetryPolicy>,
    stat_prefix: &str,
) -> authz::ExtAuthz {
    authz::ExtAuthz {
        services: Some(authz::ext_authz::Services::GrpcService(core::GrpcService {
            target_specifier: Some(envoy_grpc(agent_cluster)),
            timeout: milliseconds(timeout_ms),
            retry_policy,
            ..Default::default()
        })),
        transport_api_version: core::ApiVersion::V3.into(),
        // Selecting a new route after the filter chain was built would leave filters out.
        clear_route_cache: false,
        // With the host and the route's base path the agent finds the publish. Headers that a publish
        // may name for keys are told by a part of their names, because this filter is the same for all.
        allowed_headers: Some(headers(&[
            KEY_HEADER,
            KEY_HOST,
            "authorization",
            "content-type",
            "x-request-id",
        ])),
        stat_prefix: stat_prefix.to_owned(),
        ..Default::default()
    }
}

/// Retries, at another agent if there is one. An agent that is down, stops, or has not loaded its
/// rules has decided nothing.
fn held() -> core::RetryPolicy {
    core::RetryPolicy {
        retry_back_off: Some(core::BackoffStrategy {
            base_interval: milliseconds(25),
            max_interval: milliseconds(200),
        }),
        num_retries: uint(RETRIES),
        retry_on: "connect-failure,refused-stream,reset,unavailable".to_owned(),
        retry_host_predicate: vec![another_agent()],
        host_selection_retry_max_attempts: 3,
        ..Default::default()
    }
}

fn another_agent() -> core::retry_policy::RetryHostPredicate {
    use core::retry_policy::retry_host_predicate::ConfigType;
    core::retry_policy::RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(&PreviousHostsPredicate {}))),
    }
}

pub(super) fn envoy_grpc(cluster: &str) -> core::grpc_service::TargetSpecifier {
    core::grpc_service::TargetSpecifier::EnvoyGrpc(core::grpc_service::EnvoyGrpc {
        cluster_name: cluster.to_owned(),
        ..Default::default()
    })
}

fn headers(names: &[&str]) -> matcher::ListStringMatcher {
    use matcher::string_matcher::MatchPattern::{Contains, Exact};
    let exact = names.iter().map(|name| Exact((*name).to_owned()));
    let parts = KEY_WORDS.iter().map(|part| Contains((*part).to_owned()));
    let pattern =
        |pattern| matcher::StringMatcher { match_pattern: Some(pattern), ignore_case: true };
    matcher::ListStringMatcher { patterns: exact.chain(parts).map(pattern).collect() }
}
