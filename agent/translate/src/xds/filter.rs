//! Envoy's HTTP filters by their names here. Envoy silently ignores settings of a route under a
//! name that no filter has, or of another type than the filter takes. So each filter is once in
//! this table with its types, and names are written nowhere else.

use std::marker::PhantomData;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::envoy::extensions::filters::http;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::google::protobuf::{Any, Duration};
use hcm::http_filter::ConfigType;
use prost::Name;

use super::canon::{ads, any, extension};

/// A filter with a `Config`, and `Settings` on a route.
pub(super) struct Filter<Config, Settings = NoSettings> {
    name: &'static str,
    takes: PhantomData<fn(Config, Settings)>,
}

/// Not a filter of ours: Envoy Gateway's connection managers, which have this name in its listeners.
pub(crate) const THEIR_MANAGER: &str = "envoy.filters.network.http_connection_manager";

/// The type of filters without settings on routes.
pub(super) enum NoSettings {}

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in the chain, in routes and as an ECDS resource.
    pub name: &'static str,
    /// The type URL of its configuration.
    pub config: String,
    /// The type URL of its settings on a route, if it has any.
    pub settings: Option<String>,
}

macro_rules! filters {
    ($(#[doc = $table:literal] $list:ident { $(
        $(#[doc = $doc:literal])* $constant:ident = $name:literal, $config:ty, $settings:ty;
    )+ })+) => {
        $($(
            $(#[doc = $doc])*
            pub(super) const $constant: Filter<$config, $settings> =
                Filter { name: $name, takes: PhantomData };
        )+)+

        $(
            #[doc = $table]
            pub fn $list() -> Vec<Entry> {
                vec![$(Entry {
                    name: $name,
                    config: <$config>::type_url(),
                    settings: <$settings as OnRoute>::url(),
                }),+]
            }
        )+
    };
}

filters! {
/// The listener's chain, in order.
chain {
    /// A slot for filters that must see the request first.
    HEAD = "imp.head", http::header_mutation::v3::HeaderMutation, NoSettings;
    /// Before every check of credentials, because a preflight has none.
    CORS = "envoy.filters.http.cors", http::cors::v3::Cors, http::cors::v3::CorsPolicy;
    /// Refuses addresses.
    IP = "imp.ip", http::rbac::v3::Rbac, http::rbac::v3::RbacPerRoute;
    /// The slot for enforcement.
    DOOR = "imp.door", http::ext_authz::v3::ExtAuthz, http::ext_authz::v3::ExtAuthzPerRoute;
    /// Counts calls that need no decision.
    OPEN = "imp.open", http::ext_authz::v3::ExtAuthz, http::ext_authz::v3::ExtAuthzPerRoute;
    /// Envoy's own check of keys.
    API_KEY = "imp.apikey",
        http::api_key_auth::v3::ApiKeyAuth, http::api_key_auth::v3::ApiKeyAuthPerRoute;
    /// Envoy's own check of passwords.
    BASIC = "imp.basic", http::basic_auth::v3::BasicAuth, http::basic_auth::v3::BasicAuthPerRoute;
    /// A slot: Envoy's own check of tokens.
    JWT = "imp.jwt", http::jwt_authn::v3::JwtAuthentication, http::jwt_authn::v3::PerRouteConfig;
    /// After authentication, because it needs the consumer.
    ENTITLE = "imp.entitle", http::rbac::v3::Rbac, http::rbac::v3::RbacPerRoute;
    /// A slot for rates that an Envoy counts by itself.
    LIMIT = "imp.limit",
        http::local_ratelimit::v3::LocalRateLimit, http::local_ratelimit::v3::LocalRateLimit;
    /// Rates that the agent counts.
    REMOTE_LIMIT = "imp.rls", http::ratelimit::v3::RateLimit, http::ratelimit::v3::RateLimitPerRoute;
    /// Limits the size of a body.
    SIZE = "imp.size", http::buffer::v3::Buffer, http::buffer::v3::BufferPerRoute;
    /// A slot for validating bodies.
    VALIDATE = "imp.validate", http::header_mutation::v3::HeaderMutation, NoSettings;
    /// After all filters that read or set identity.
    HEADERS = "imp.headers",
        http::header_mutation::v3::HeaderMutation, http::header_mutation::v3::HeaderMutationPerRoute;
    /// Delays and aborts.
    FAULT = "envoy.filters.http.fault", http::fault::v3::HttpFault, http::fault::v3::HttpFault;
    /// A slot.
    COMPRESS = "imp.compress",
        http::compressor::v3::Compressor, http::compressor::v3::CompressorPerRoute;
    /// A slot. After every check, so that a cached answer is served only to authorised callers.
    CACHE = "imp.cache", http::cache::v3::CacheConfig, NoSettings;
    /// gRPC-Web.
    GRPC_WEB = "imp.grpcweb", http::grpc_web::v3::GrpcWeb, NoSettings;
    /// A slot.
    TAIL = "imp.tail", http::header_mutation::v3::HeaderMutation, NoSettings;
    /// Nearest to the upstream, so that headers of the gateway itself pass.
    EDGE = "imp.edge", http::header_mutation::v3::HeaderMutation, NoSettings;
    /// Must be the last one.
    ROUTER = "envoy.filters.http.router", http::router::v3::Router, NoSettings;
}
/// Before the chain of a listener behind somebody else's.
inner {
    /// Asks for clusters when a call needs them.
    ON_DEMAND = "envoy.filters.http.on_demand",
        http::on_demand::v3::OnDemand, http::on_demand::v3::PerRouteConfig;
}
/// The chain between the router and the chosen host.
upstream {
    /// Checks the host's address.
    UPSTREAM_RBAC = "envoy.filters.http.upstream_rbac", http::rbac::v3::Rbac, NoSettings;
    /// Must be the last one.
    UPSTREAM_CODEC = "envoy.filters.http.upstream_codec",
        http::upstream_codec::v3::UpstreamCodec, NoSettings;
}
}

/// Settings on a route, or none.
trait OnRoute {
    fn url() -> Option<String>;
}

impl OnRoute for NoSettings {
    fn url() -> Option<String> {
        None
    }
}

impl<M: Name> OnRoute for M {
    fn url() -> Option<String> {
        Some(M::type_url())
    }
}

impl<Config: Name, Settings> Filter<Config, Settings> {
    /// The chain's entry with this configuration.
    pub(super) fn fixed(&self, config: &Config) -> hcm::HttpFilter {
        self.of(ConfigType::TypedConfig(any(config)))
    }

    /// The chain's entry for a filter of one of these types that is sent by ECDS. Until it arrives
    /// the default serves, so that the port opens at once.
    pub(super) fn slot<M: Name>(&self, types: &[&str], default: &M) -> hcm::HttpFilter {
        let mut source = source(types, default);
        source.apply_default_config_without_warming = true;
        self.of(ConfigType::ConfigDiscovery(source))
    }

    /// The same for a filter without which the port does not open. The default serves only if the
    /// filter has not come after [`LONGEST_WARMING`].
    pub(super) fn slot_that_warms<M: Name>(&self, types: &[&str], default: &M) -> hcm::HttpFilter {
        let mut source = source(types, default);
        if let Some(config_source) = &mut source.config_source {
            config_source.initial_fetch_timeout = Some(LONGEST_WARMING);
        }
        self.of(ConfigType::ConfigDiscovery(source))
    }

    /// The ECDS resource for its slot.
    pub(super) fn resource(&self, config: &Config) -> core::TypedExtensionConfig {
        extension(self.name, config)
    }

    /// Its name, for a resource of another type in its slot.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// An entry of a route's `typed_per_filter_config` that switches the filter off, whichever is
    /// in its slot.
    pub(super) fn off(&self) -> (String, Any) {
        let off = envoy::FilterConfig { disabled: true, ..Default::default() };
        (self.name.to_owned(), any(&off))
    }

    fn of(&self, config: ConfigType) -> hcm::HttpFilter {
        let name = self.name.to_owned();
        hcm::HttpFilter { name, config_type: Some(config), ..Default::default() }
    }
}

/// The server sends the filter at the latest a minute after Envoy asked for it.
const LONGEST_WARMING: Duration = Duration { seconds: 90, nanos: 0 };

fn source<M: Name>(types: &[&str], default: &M) -> core::ExtensionConfigSource {
    core::ExtensionConfigSource {
        config_source: ads(),
        default_config: Some(any(default)),
        apply_default_config_without_warming: false,
        type_urls: types.iter().map(|name| format!("{PREFIX}{name}")).collect(),
    }
}

const PREFIX: &str = "type.googleapis.com/envoy.extensions.filters.http.";

impl<Config, Settings: Name> Filter<Config, Settings> {
    /// An entry of a route's `typed_per_filter_config`.
    pub(super) fn on_route(&self, settings: &Settings) -> (String, Any) {
        (self.name.to_owned(), any(settings))
    }

    /// Like [`Self::on_route`], for encoded settings: see [`super::canon`].
    pub(super) fn on_route_encoded(&self, value: Vec<u8>) -> (String, Any) {
        (self.name.to_owned(), Any { type_url: Settings::type_url(), value })
    }
}
