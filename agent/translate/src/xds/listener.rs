//! The listener template: one per port, and never updated, because an update drains connections.
//! Everything that a publish or a gateway can change is in scopes, clusters and ECDS slots.

pub(crate) mod dedicated;
mod early;
mod fed;
mod filters;
pub(crate) mod inner;
mod limits;
mod mutation;
mod refusals;
mod replies;

pub(super) use refusals::SLASH;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::listener::v3 as envoy;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::Any;
use prost::{Message, Name};

use super::canon::{ads, milliseconds, socket_address, truth, uint};
use super::names::{KEY_HOST, KEY_PORT};
use super::{Door, LISTENER, Layout, Module, Options, Rendered, names};
use crate::ir::{Edge, EscapedSlash};

/// How long a stream may be silent, unless its route sets another limit.
pub(super) const IDLE_MS: u32 = 300_000;

/// The listener of a port. Gateways with equal settings share it.
/// With a module the hosts are its business; an Envoy that cannot load it gets the `plain` one.
pub fn render(port: u16, edge: &Edge, options: &Options) -> Rendered {
    let plain = with(port, edge, options, None);
    match &options.door {
        // The layout for comparison looks for hosts itself.
        Door::Module(module) if options.layout != Layout::WholeRds => {
            Rendered { plain: Some(plain.into()), ..with(port, edge, options, Some(module)) }
        }
        _ => plain,
    }
}

fn with(port: u16, edge: &Edge, options: &Options, module: Option<&Module>) -> Rendered {
    let name = names::listener(port);
    let manager = connection_manager(port, edge, options, module);
    let message = envoy::Listener {
        name: name.clone(),
        address: Some(socket_address(options.bind_address.clone(), port)),
        per_connection_buffer_limit_bytes: uint(32_768),
        connection_balance_config: Some(exact_balance()),
        max_connections_to_accept_per_socket_event: uint(10),
        filter_chains: vec![chain(&manager, module.is_some())],
        ..Default::default()
    };
    Rendered::new(LISTENER, name, message.encode_to_vec())
}

/// The only filter chain, with the answers that Envoy gives by itself.
fn chain(manager: &hcm::HttpConnectionManager, with_module: bool) -> envoy::FilterChain {
    let mut value = manager.encode_to_vec();
    value.extend(replies::mappers(with_module).encode_to_vec());
    let filter = envoy::Filter {
        name: "hcm".to_owned(),
        config_type: Some(envoy::filter::ConfigType::TypedConfig(Any {
            type_url: hcm::HttpConnectionManager::type_url(),
            value,
        })),
    };
    envoy::FilterChain { filters: vec![filter], ..Default::default() }
}

fn exact_balance() -> envoy::listener::ConnectionBalanceConfig {
    use envoy::listener::connection_balance_config::{BalanceType, ExactBalance};
    envoy::listener::ConnectionBalanceConfig {
        balance_type: Some(BalanceType::ExactBalance(ExactBalance {})),
    }
}

/// The hardened edge of the reference, for plain HTTP.
fn connection_manager(
    port: u16,
    edge: &Edge,
    options: &Options,
    module: Option<&Module>,
) -> hcm::HttpConnectionManager {
    use hcm::http_connection_manager::{
        CodecType, ForwardClientCertDetails, ServerHeaderTransformation,
    };
    hcm::HttpConnectionManager {
        stat_prefix: format!("port_{port}"),
        codec_type: CodecType::Auto.into(),
        route_specifier: Some(route_specifier(port, options.layout)),
        early_header_mutation_extensions: early::mutations(port, edge, module, edge.trusted_hops),
        http_filters: filters::chain(options),
        use_remote_address: truth(true),
        xff_num_trusted_hops: edge.trusted_hops,
        internal_address_config: Some(nobody_is_internal()),
        normalize_path: truth(true),
        merge_slashes: true,
        path_with_escaped_slashes_action: escaped_slashes(edge.escaped_slash).into(),
        // The module does it, and refuses a host with two.
        strip_trailing_host_dot: module.is_none(),
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
        max_request_headers_kb: uint(limits::CODEC_HEADERS_KB),
        common_http_protocol_options: Some(limits::connection()),
        http_protocol_options: Some(limits::http1(edge)),
        http2_protocol_options: Some(limits::http2()),
        forward_client_cert_details: ForwardClientCertDetails::Sanitize.into(),
        stream_error_on_invalid_http_message: truth(false),
        ..Default::default()
    }
}

/// Callers in the same network must not control the gateway with `x-envoy-*` either. An empty list
/// would mean the private networks, so this one has an address that nobody can call from.
fn nobody_is_internal() -> hcm::http_connection_manager::InternalAddressConfig {
    let broadcast =
        core::CidrRange { address_prefix: "255.255.255.255".to_owned(), prefix_len: uint(32) };
    hcm::http_connection_manager::InternalAddressConfig {
        cidr_ranges: vec![broadcast],
        ..Default::default()
    }
}

/// Kept slashes are checked again: see [`early`].
fn escaped_slashes(
    choice: EscapedSlash,
) -> hcm::http_connection_manager::PathWithEscapedSlashesAction {
    use hcm::http_connection_manager::PathWithEscapedSlashesAction as Action;
    match choice {
        EscapedSlash::Refuse => Action::RejectRequest,
        EscapedSlash::Keep => Action::KeepUnchanged,
        EscapedSlash::Decode => Action::UnescapeAndForward,
    }
}

fn route_specifier(port: u16, layout: Layout) -> hcm::http_connection_manager::RouteSpecifier {
    use hcm::http_connection_manager::RouteSpecifier;
    if layout == Layout::WholeRds {
        let route_config_name = names::routes(port);
        return RouteSpecifier::Rds(hcm::Rds { config_source: ads(), route_config_name });
    }
    RouteSpecifier::ScopedRoutes(scoped_routes(ads()))
}

/// Routes by the scope's key, from this source.
fn scoped_routes(source: Option<core::ConfigSource>) -> hcm::ScopedRoutes {
    use hcm::scoped_routes::ScopeKeyBuilder;
    use hcm::scoped_routes::scope_key_builder::FragmentBuilder;
    use hcm::scoped_routes::scope_key_builder::fragment_builder::{
        HeaderValueExtractor, Type, header_value_extractor::ExtractType,
    };
    let fragment = |name: &str| FragmentBuilder {
        r#type: Some(Type::HeaderValueExtractor(HeaderValueExtractor {
            name: name.to_owned(),
            // A host's port is not part of the key; the upstream sees it.
            element_separator: ":".to_owned(),
            extract_type: Some(ExtractType::Index(0)),
        })),
    };
    let scoped_rds =
        hcm::ScopedRds { scoped_rds_config_source: source.clone(), ..Default::default() };
    hcm::ScopedRoutes {
        name: "imp".to_owned(),
        scope_key_builder: Some(ScopeKeyBuilder {
            fragments: vec![fragment(KEY_PORT), fragment(KEY_HOST)],
        }),
        rds_config_source: source,
        config_specifier: Some(hcm::scoped_routes::ConfigSpecifier::ScopedRds(scoped_rds)),
    }
}
