//! The listener template. One per port, and never updated: an update drains connections. Everything
//! that a publish or a gateway can change lives in scopes, clusters and ECDS slots.

mod filters;
mod mutation;
mod replies;

use envoy_types::pb::envoy::config::common::mutation_rules::v3 as rules;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as envoy;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3 as early;
use envoy_types::pb::google::protobuf::Any;
use imp_grammar::headers::{STRIPPED_NAMES, STRIPPED_PREFIXES};
use prost::{Message, Name};

use super::canon::{ads, extension, header, milliseconds, socket_address, truth, uint};
use super::names::{KEY_HOST, KEY_PORT, SPELLING};
use super::{LISTENER, Layout, Options, Rendered, names};
use mutation::{mutation, starts_with};

/// A stream may be silent for so long, unless its route says otherwise.
pub(super) const IDLE_MS: u32 = 300_000;

/// The listener of a port. Gateways may share it.
pub fn render(port: u16, options: &Options) -> Rendered {
    let name = names::listener(port);
    let mut manager = connection_manager(port, options).encode_to_vec();
    manager.extend(replies::mappers().encode_to_vec());
    let filter = envoy::Filter {
        name: "hcm".to_owned(),
        config_type: Some(envoy::filter::ConfigType::TypedConfig(Any {
            type_url: hcm::HttpConnectionManager::type_url(),
            value: manager,
        })),
    };
    let message = envoy::Listener {
        name: name.clone(),
        address: Some(socket_address(options.bind_address.clone(), port)),
        per_connection_buffer_limit_bytes: uint(32_768),
        connection_balance_config: Some(exact_balance()),
        max_connections_to_accept_per_socket_event: uint(10),
        filter_chains: vec![envoy::FilterChain { filters: vec![filter], ..Default::default() }],
        ..Default::default()
    };
    Rendered::new(LISTENER, name, message.encode_to_vec())
}

fn exact_balance() -> envoy::listener::ConnectionBalanceConfig {
    use envoy::listener::connection_balance_config::{BalanceType, ExactBalance};
    envoy::listener::ConnectionBalanceConfig {
        balance_type: Some(BalanceType::ExactBalance(ExactBalance {})),
    }
}

/// The hardened edge of the reference, for the clear.
fn connection_manager(port: u16, options: &Options) -> hcm::HttpConnectionManager {
    use hcm::http_connection_manager::{
        CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction,
        ServerHeaderTransformation,
    };
    hcm::HttpConnectionManager {
        stat_prefix: format!("port_{port}"),
        codec_type: CodecType::Auto.into(),
        route_specifier: Some(route_specifier(port, options.layout)),
        early_header_mutation_extensions: vec![
            extension("strip", &strip()),
            extension("canon", &scope_key(port)),
        ],
        http_filters: filters::chain(options),
        use_remote_address: truth(true),
        internal_address_config: Some(nobody_is_internal()),
        normalize_path: truth(true),
        merge_slashes: true,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::RejectRequest.into(),
        strip_trailing_host_dot: true,
        server_header_transformation: ServerHeaderTransformation::Overwrite.into(),
        server_name: "imp".to_owned(),
        generate_request_id: truth(true),
        preserve_external_request_id: false,
        always_set_request_id_in_response: true,
        request_timeout: milliseconds(0),
        request_headers_timeout: milliseconds(10_000),
        stream_idle_timeout: milliseconds(IDLE_MS),
        drain_timeout: milliseconds(5_000),
        delayed_close_timeout: milliseconds(1_000),
        max_request_headers_kb: uint(32),
        common_http_protocol_options: Some(connection_options()),
        http_protocol_options: Some(core::Http1ProtocolOptions::default()),
        http2_protocol_options: Some(http2_options()),
        forward_client_cert_details: ForwardClientCertDetails::Sanitize.into(),
        stream_error_on_invalid_http_message: truth(false),
        ..Default::default()
    }
}

/// A caller in the same network may not steer with `x-envoy-*` either. An empty list would stand for
/// the private networks, so this one names an address that nobody can call from.
fn nobody_is_internal() -> hcm::http_connection_manager::InternalAddressConfig {
    let broadcast =
        core::CidrRange { address_prefix: "255.255.255.255".to_owned(), prefix_len: uint(32) };
    hcm::http_connection_manager::InternalAddressConfig {
        cidr_ranges: vec![broadcast],
        ..Default::default()
    }
}

fn connection_options() -> core::HttpProtocolOptions {
    use core::http_protocol_options::HeadersWithUnderscoresAction::RejectRequest;
    core::HttpProtocolOptions {
        idle_timeout: milliseconds(60_000),
        max_connection_duration: milliseconds(3_600_000),
        max_headers_count: uint(64),
        max_requests_per_connection: uint(10_000),
        headers_with_underscores_action: RejectRequest.into(),
        ..Default::default()
    }
}

fn http2_options() -> core::Http2ProtocolOptions {
    core::Http2ProtocolOptions {
        max_concurrent_streams: uint(100),
        initial_stream_window_size: uint(65_536),
        initial_connection_window_size: uint(1_048_576),
        max_outbound_frames: uint(1_000),
        max_consecutive_inbound_frames_with_empty_payload: uint(1),
        ..Default::default()
    }
}

fn route_specifier(port: u16, layout: Layout) -> hcm::http_connection_manager::RouteSpecifier {
    use hcm::http_connection_manager::RouteSpecifier;
    use hcm::scoped_routes::ScopeKeyBuilder;
    use hcm::scoped_routes::scope_key_builder::FragmentBuilder;
    use hcm::scoped_routes::scope_key_builder::fragment_builder::{
        HeaderValueExtractor, Type, header_value_extractor::ExtractType,
    };
    if layout == Layout::WholeRds {
        let route_config_name = names::routes(port);
        return RouteSpecifier::Rds(hcm::Rds { config_source: ads(), route_config_name });
    }
    let fragment = |name: &str| FragmentBuilder {
        r#type: Some(Type::HeaderValueExtractor(HeaderValueExtractor {
            name: name.to_owned(),
            // A host's port is no part of the key; the upstream sees it.
            element_separator: ":".to_owned(),
            extract_type: Some(ExtractType::Index(0)),
        })),
    };
    let scoped_rds = hcm::ScopedRds { scoped_rds_config_source: ads(), ..Default::default() };
    RouteSpecifier::ScopedRoutes(hcm::ScopedRoutes {
        name: "imp".to_owned(),
        scope_key_builder: Some(ScopeKeyBuilder {
            fragments: vec![fragment(KEY_PORT), fragment(KEY_HOST)],
        }),
        rds_config_source: ads(),
        config_specifier: Some(hcm::scoped_routes::ConfigSpecifier::ScopedRds(scoped_rds)),
    })
}

/// Takes away what only the gateway may say. Envoy writes `x-forwarded-for` and `x-forwarded-proto` itself,
/// behind this.
fn strip() -> early::HeaderMutation {
    use rules::header_mutation::Action;
    let families = STRIPPED_PREFIXES.map(starts_with);
    let names = STRIPPED_NAMES.map(|name| mutation(Action::Remove(name.to_owned())));
    early::HeaderMutation { mutations: families.into_iter().chain(names).collect() }
}

/// Writes the key by which the scope is found. This runs before the route lookup, and nothing after
/// it may clear the route cache.
fn scope_key(port: u16) -> early::HeaderMutation {
    use core::header_value_option::HeaderAppendAction::OverwriteIfExistsOrAdd;
    use rules::header_mutation::Action;
    let host = format!(
        "%CEL(request.host.matches('[A-Z]') ? '{SPELLING}' : \
         request.host.matches('^[^:@]*(:[0-9]{{1,5}})?$') ? request.host : '-')%"
    );
    let set = |key: &str, value: &str| Action::Append(header(key, value, OverwriteIfExistsOrAdd));
    let actions = [set(KEY_PORT, &port.to_string()), set(KEY_HOST, &host)];
    early::HeaderMutation { mutations: actions.into_iter().map(mutation).collect() }
}
