//! Envoy's messages, as resources of a resource set.

use envoy_types::pb::envoy::config as c;
use envoy_types::pb::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ConfigSource, HeaderValue, HeaderValueOption, SocketAddress,
    address, config_source, socket_address,
};
use envoy_types::pb::envoy::extensions as x;
use envoy_types::pb::google::protobuf::{Any, Duration, UInt32Value};
use imp_xds::{Resource, TypeUrl};
use prost::Message;
use x::filters::network::http_connection_manager::v3 as hcm;
use x::transport_sockets::tls::v3 as tls;

macro_rules! urls {
    ($($name:ident $url:literal;)*) => {
        $(pub(crate) const $name: &str = concat!("type.googleapis.com/envoy.", $url);)*
    };
}

urls! {
    CLUSTER "config.cluster.v3.Cluster";
    ENDPOINTS "config.endpoint.v3.ClusterLoadAssignment";
    LISTENER "config.listener.v3.Listener";
    ROUTES "config.route.v3.RouteConfiguration";
    SCOPE "config.route.v3.ScopedRouteConfiguration";
    SECRET "extensions.transport_sockets.tls.v3.Secret";
    EXTENSION "config.core.v3.TypedExtensionConfig";
    RUNTIME "service.runtime.v3.Runtime";
    HCM "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    VIRTUAL_HOST "config.route.v3.VirtualHost";
    ON_DEMAND "extensions.filters.http.on_demand.v3.OnDemand";
    ROUTER "extensions.filters.http.router.v3.Router";
    MUTATION "extensions.filters.http.header_mutation.v3.HeaderMutation";
    TLS "extensions.transport_sockets.tls.v3.DownstreamTlsContext";
}

fn resource(name: &str, version: &str, message: &impl Message) -> Resource {
    Resource::new(name, version, message.encode_to_vec().into())
}

fn children(list: &[(&str, &str)]) -> Vec<(TypeUrl, std::sync::Arc<str>)> {
    list.iter().map(|(type_url, name)| (TypeUrl::from(*type_url), (*name).into())).collect()
}

fn any(type_url: &str, message: &impl Message) -> Option<Any> {
    Some(Any { type_url: type_url.to_owned(), value: message.encode_to_vec() })
}

/// The config source for the one stream.
fn ads() -> Option<ConfigSource> {
    let ads = AggregatedConfigSource::default();
    Some(ConfigSource {
        resource_api_version: c::core::v3::ApiVersion::V3 as i32,
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(ads)),
        ..Default::default()
    })
}

fn address(port: u16) -> Option<Address> {
    Some(Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: "127.0.0.1".to_owned(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    })
}

/// A cluster whose endpoints are sent over the stream.
pub(crate) fn cluster(name: &str, version: &str, timeout_ms: i32) -> Resource {
    use c::cluster::v3::{Cluster, cluster};
    let eds = cluster::EdsClusterConfig { eds_config: ads(), ..Default::default() };
    let message = Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(
            cluster::DiscoveryType::Eds as i32,
        )),
        eds_cluster_config: Some(eds),
        connect_timeout: Some(Duration { seconds: 0, nanos: timeout_ms * 1_000_000 }),
        ..Default::default()
    };
    resource(name, version, &message).with_children(children(&[(ENDPOINTS, name)]))
}

/// A cluster that Envoy rejects: it has no way to find endpoints.
pub(crate) fn bad_cluster(name: &str, version: &str) -> Resource {
    use c::cluster::v3::{Cluster, cluster};
    let message = Cluster {
        name: name.to_owned(),
        cluster_discovery_type: Some(cluster::ClusterDiscoveryType::Type(
            cluster::DiscoveryType::Eds as i32,
        )),
        ..Default::default()
    };
    resource(name, version, &message)
}

pub(crate) fn endpoints(cluster: &str, version: &str, port: u16) -> Resource {
    use c::endpoint::v3::{
        ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
    };
    let endpoint = Endpoint { address: address(port), ..Default::default() };
    let endpoint = LbEndpoint {
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    // gRPC accepts only localities with a name and a weight.
    let locality = LocalityLbEndpoints {
        locality: Some(c::core::v3::Locality::default()),
        lb_endpoints: vec![endpoint],
        load_balancing_weight: Some(UInt32Value { value: 1 }),
        ..Default::default()
    };
    let message = ClusterLoadAssignment {
        cluster_name: cluster.to_owned(),
        endpoints: vec![locality],
        ..Default::default()
    };
    resource(cluster, version, &message)
}

fn virtual_host(name: &str, domain: &str, cluster: &str) -> c::route::v3::VirtualHost {
    use c::route::v3::{
        Route, RouteAction, RouteMatch, VirtualHost, route, route_action, route_match,
    };
    let to = RouteAction {
        cluster_specifier: Some(route_action::ClusterSpecifier::Cluster(cluster.to_owned())),
        ..Default::default()
    };
    let route = Route {
        r#match: Some(RouteMatch {
            path_specifier: Some(route_match::PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        action: Some(route::Action::Route(to)),
        ..Default::default()
    };
    VirtualHost {
        name: name.to_owned(),
        domains: vec![domain.to_owned()],
        routes: vec![route],
        ..Default::default()
    }
}

/// Routes that send everything to one cluster.
pub(crate) fn routes(name: &str, version: &str, cluster: &str) -> Resource {
    let message = c::route::v3::RouteConfiguration {
        name: name.to_owned(),
        virtual_hosts: vec![virtual_host("all", "*", cluster)],
        ..Default::default()
    };
    resource(name, version, &message)
}

/// Routes with on-demand virtual hosts, over a stream of their own.
pub(crate) fn routes_on_demand(name: &str, version: &str) -> Resource {
    use c::core::v3::{ApiConfigSource, ApiVersion, GrpcService, api_config_source, grpc_service};
    let service =
        grpc_service::EnvoyGrpc { cluster_name: "server".to_owned(), ..Default::default() };
    let service = GrpcService {
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(service)),
        ..Default::default()
    };
    let source = ApiConfigSource {
        api_type: api_config_source::ApiType::DeltaGrpc as i32,
        transport_api_version: ApiVersion::V3 as i32,
        grpc_services: vec![service],
        ..Default::default()
    };
    let source = ConfigSource {
        resource_api_version: ApiVersion::V3 as i32,
        // Envoy opens the listener after the first host has arrived, or after this time; hosts are
        // sent on demand.
        initial_fetch_timeout: Some(Duration { seconds: 0, nanos: 100_000_000 }),
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::ApiConfigSource(
            source,
        )),
        ..Default::default()
    };
    let message = c::route::v3::RouteConfiguration {
        name: name.to_owned(),
        vhds: Some(c::route::v3::Vhds { config_source: Some(source) }),
        ..Default::default()
    };
    resource(name, version, &message)
}

/// A virtual host of a route configuration.
pub(crate) fn host(routes: &str, version: &str, domain: &str, cluster: &str) -> Resource {
    let name = format!("{routes}/of-{domain}");
    let alias = format!("{routes}/{domain}").into();
    resource(&name, version, &virtual_host(domain, domain, cluster)).with_aliases([alias])
}

/// A scope by the header `x-scope`.
pub(crate) fn scope(name: &str, version: &str, key: &str, routes: &str) -> Resource {
    scope_by_name(name, version, key, routes).with_children(children(&[(ROUTES, routes)]))
}

/// The same, which waits until Envoy has the routes.
pub(crate) fn waiting_scope(name: &str, version: &str, routes: &str) -> Resource {
    scope_by_name(name, version, name, routes).with_required(children(&[(ROUTES, routes)]))
}

fn scope_by_name(name: &str, version: &str, key: &str, routes: &str) -> Resource {
    use c::route::v3::{ScopedRouteConfiguration, scoped_route_configuration as scoped};
    let fragment = scoped::key::Fragment {
        r#type: Some(scoped::key::fragment::Type::StringKey(key.to_owned())),
    };
    let message = ScopedRouteConfiguration {
        name: name.to_owned(),
        route_configuration_name: routes.to_owned(),
        key: Some(scoped::Key { fragments: vec![fragment] }),
        ..Default::default()
    };
    resource(name, version, &message)
}

/// Routes that answer with their version. Wrong ones have a regular expression that Envoy rejects
/// without naming them.
fn routes_of_their_own(
    name: String,
    version: &str,
    is_wrong: bool,
) -> c::route::v3::RouteConfiguration {
    use c::route::v3::{
        DirectResponseAction, Route, RouteConfiguration, RouteMatch, VirtualHost, route,
        route_match,
    };
    use envoy_types::pb::envoy::r#type::matcher::v3::RegexMatcher;
    let path = if is_wrong {
        let regex = RegexMatcher { regex: "[".to_owned(), ..Default::default() };
        route_match::PathSpecifier::SafeRegex(regex)
    } else {
        route_match::PathSpecifier::Prefix("/".to_owned())
    };
    let body = c::core::v3::data_source::Specifier::InlineString(version.to_owned());
    let answer = DirectResponseAction {
        status: 200,
        body: Some(c::core::v3::DataSource { specifier: Some(body), ..Default::default() }),
        ..Default::default()
    };
    let route = Route {
        r#match: Some(RouteMatch { path_specifier: Some(path), ..Default::default() }),
        action: Some(route::Action::DirectResponse(answer)),
        ..Default::default()
    };
    let host = VirtualHost {
        name: "all".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![route],
        ..Default::default()
    };
    RouteConfiguration { name, virtual_hosts: vec![host], ..Default::default() }
}

/// The same as a resource.
pub(crate) fn table(name: &str, version: &str, is_wrong: bool) -> Resource {
    resource(name, version, &routes_of_their_own(name.to_owned(), version, is_wrong))
}

/// A scope with such routes.
pub(crate) fn scope_of_its_own(name: &str, version: &str, is_wrong: bool) -> Resource {
    use c::route::v3::{ScopedRouteConfiguration, scoped_route_configuration as scoped};
    let routes = routes_of_their_own(format!("{name}#{version}"), version, is_wrong);
    let fragment = scoped::key::Fragment {
        r#type: Some(scoped::key::fragment::Type::StringKey(name.to_owned())),
    };
    let message = ScopedRouteConfiguration {
        name: name.to_owned(),
        route_configuration: Some(routes),
        key: Some(scoped::Key { fragments: vec![fragment] }),
        ..Default::default()
    };
    resource(name, version, &message)
}

/// The same scope in other bytes.
pub(crate) fn restamp(scope: &Resource, attempt: u32) -> bytes::Bytes {
    let message = c::route::v3::ScopedRouteConfiguration::decode(scope.value().clone());
    let mut message = message.expect("a scope");
    if let Some(routes) = &mut message.route_configuration {
        routes.name = format!("{}~{attempt}", routes.name);
    }
    message.encode_to_vec().into()
}

/// A filter that adds its version to a header of each answer.
pub(crate) fn extension(name: &str, version: &str) -> Resource {
    use c::common::mutation_rules::v3::{HeaderMutation, header_mutation};
    use x::filters::http::header_mutation::v3 as filter;
    let append = HeaderValueOption {
        header: Some(HeaderValue {
            key: "x-extension".to_owned(),
            value: version.to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mutation = HeaderMutation { action: Some(header_mutation::Action::Append(append)) };
    let mutations = filter::Mutations { response_mutations: vec![mutation], ..Default::default() };
    let filter = filter::HeaderMutation { mutations: Some(mutations), ..Default::default() };
    let message = c::core::v3::TypedExtensionConfig {
        name: name.to_owned(),
        typed_config: any(MUTATION, &filter),
    };
    resource(name, version, &message)
}

/// One value of the runtime.
pub(crate) fn runtime(name: &str, version: &str, key: &str) -> Resource {
    use envoy_types::pb::google::protobuf::{Struct, Value, value};
    let value = Value { kind: Some(value::Kind::StringValue(version.to_owned())) };
    let layer = Struct { fields: [(key.to_owned(), value)].into() };
    let message = envoy_types::pb::envoy::service::runtime::v3::Runtime {
        name: name.to_owned(),
        layer: Some(layer),
    };
    resource(name, version, &message)
}

/// A certificate with its key.
pub(crate) fn secret(name: &str, version: &str, pem: &str) -> Resource {
    use c::core::v3::{DataSource, data_source};
    let source = || {
        let specifier = Some(data_source::Specifier::InlineString(pem.to_owned()));
        Some(DataSource { specifier, ..Default::default() })
    };
    let certificate = tls::TlsCertificate {
        certificate_chain: source(),
        private_key: source(),
        ..Default::default()
    };
    let message = tls::Secret {
        name: name.to_owned(),
        r#type: Some(tls::secret::Type::TlsCertificate(certificate)),
    };
    resource(name, version, &message)
}

/// How a listener finds its routes.
pub(crate) enum Routing<'a> {
    Named(&'a str),
    Scoped,
}

/// An HTTP listener with the filter `extension`, with TLS if there is a secret.
pub(crate) fn listener(
    name: &str,
    version: &str,
    port: u16,
    routing: &Routing<'_>,
    secret: Option<&str>,
) -> Resource {
    use c::listener::v3::{Filter, FilterChain, Listener, filter};
    let manager = hcm::HttpConnectionManager {
        stat_prefix: name.to_owned(),
        http_filters: vec![on_demand(), extension_filter(), router()],
        route_specifier: Some(specifier(routing)),
        ..Default::default()
    };
    let filter = Filter {
        name: "http".to_owned(),
        config_type: any(HCM, &manager).map(filter::ConfigType::TypedConfig),
    };
    let chain = FilterChain {
        filters: vec![filter],
        transport_socket: secret.map(transport),
        ..Default::default()
    };
    let message = Listener {
        name: name.to_owned(),
        address: address(port),
        filter_chains: vec![chain],
        ..Default::default()
    };
    let mut refers = vec![(EXTENSION, "extension")];
    refers.extend(secret.map(|name| (SECRET, name)));
    if let Routing::Named(routes) = routing {
        refers.push((ROUTES, routes));
    }
    resource(name, version, &message).with_children(children(&refers))
}

/// A gRPC client's listener: its name is the name of the service.
pub(crate) fn api_listener(name: &str, version: &str, routes: &str) -> Resource {
    use c::listener::v3::{ApiListener, Listener};
    let manager = hcm::HttpConnectionManager {
        http_filters: vec![router()],
        route_specifier: Some(specifier(&Routing::Named(routes))),
        ..Default::default()
    };
    let message = Listener {
        name: name.to_owned(),
        api_listener: Some(ApiListener { api_listener: any(HCM, &manager) }),
        ..Default::default()
    };
    resource(name, version, &message).with_children(children(&[(ROUTES, routes)]))
}

fn specifier(routing: &Routing<'_>) -> hcm::http_connection_manager::RouteSpecifier {
    use hcm::http_connection_manager::RouteSpecifier;
    use hcm::scoped_routes::scope_key_builder::{FragmentBuilder, fragment_builder};
    use hcm::scoped_routes::{ConfigSpecifier, ScopeKeyBuilder};
    let Routing::Scoped = routing else {
        let Routing::Named(name) = routing else { unreachable!("two ways") };
        let name = (*name).to_owned();
        return RouteSpecifier::Rds(hcm::Rds { config_source: ads(), route_config_name: name });
    };
    let index = fragment_builder::header_value_extractor::ExtractType::Index(0);
    let header = fragment_builder::HeaderValueExtractor {
        name: "x-scope".to_owned(),
        element_separator: String::new(),
        extract_type: Some(index),
    };
    let builder =
        FragmentBuilder { r#type: Some(fragment_builder::Type::HeaderValueExtractor(header)) };
    let scoped_rds = hcm::ScopedRds { scoped_rds_config_source: ads(), ..Default::default() };
    RouteSpecifier::ScopedRoutes(hcm::ScopedRoutes {
        name: "scopes".to_owned(),
        scope_key_builder: Some(ScopeKeyBuilder { fragments: vec![builder] }),
        rds_config_source: ads(),
        config_specifier: Some(ConfigSpecifier::ScopedRds(scoped_rds)),
    })
}

fn extension_filter() -> hcm::HttpFilter {
    let source = c::core::v3::ExtensionConfigSource {
        config_source: ads(),
        type_urls: vec![MUTATION.to_owned()],
        ..Default::default()
    };
    hcm::HttpFilter {
        name: "extension".to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::ConfigDiscovery(source)),
        ..Default::default()
    }
}

fn on_demand() -> hcm::HttpFilter {
    let filter = x::filters::http::on_demand::v3::OnDemand::default();
    hcm::HttpFilter {
        name: "envoy.filters.http.on_demand".to_owned(),
        config_type: any(ON_DEMAND, &filter).map(hcm::http_filter::ConfigType::TypedConfig),
        ..Default::default()
    }
}

fn router() -> hcm::HttpFilter {
    let router = x::filters::http::router::v3::Router::default();
    hcm::HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: any(ROUTER, &router).map(hcm::http_filter::ConfigType::TypedConfig),
        ..Default::default()
    }
}

fn transport(secret: &str) -> c::core::v3::TransportSocket {
    let certificate = tls::SdsSecretConfig { name: secret.to_owned(), sds_config: ads() };
    let common = tls::CommonTlsContext {
        tls_certificate_sds_secret_configs: vec![certificate],
        alpn_protocols: vec!["h2".to_owned()],
        ..Default::default()
    };
    let context =
        tls::DownstreamTlsContext { common_tls_context: Some(common), ..Default::default() };
    c::core::v3::TransportSocket {
        name: "envoy.transport_sockets.tls".to_owned(),
        config_type: any(TLS, &context).map(c::core::v3::transport_socket::ConfigType::TypedConfig),
    }
}
