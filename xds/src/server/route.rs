//! Which path serves what: one aggregated service, and one per type (R1).

use crate::stream::Variant;

/// What a method serves.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) path: &'static str,
    pub(crate) variant: Variant,
    /// `None` for all types.
    pub(crate) type_url: Option<&'static str>,
}

impl Route {
    pub(crate) fn of(path: &str) -> Option<&'static Self> {
        ROUTES.iter().find(|route| route.path == path)
    }
}

macro_rules! routes {
    ($($service:literal $type_url:expr, $delta:literal $($list:literal)?;)*) => {
        static ROUTES: &[Route] = &[$(
            Route {
                path: concat!("/envoy.service.", $service, "/", $delta),
                variant: Variant::Delta,
                type_url: $type_url,
            },
            $(Route {
                path: concat!("/envoy.service.", $service, "/", $list),
                variant: Variant::StateOfTheWorld,
                type_url: $type_url,
            },)?
        )*];
    };
}

macro_rules! url {
    ($name:literal) => {
        Some(concat!("type.googleapis.com/envoy.", $name))
    };
}

routes! {
    "discovery.v3.AggregatedDiscoveryService" None,
        "DeltaAggregatedResources" "StreamAggregatedResources";
    "cluster.v3.ClusterDiscoveryService" url!("config.cluster.v3.Cluster"),
        "DeltaClusters" "StreamClusters";
    "endpoint.v3.EndpointDiscoveryService" url!("config.endpoint.v3.ClusterLoadAssignment"),
        "DeltaEndpoints" "StreamEndpoints";
    "listener.v3.ListenerDiscoveryService" url!("config.listener.v3.Listener"),
        "DeltaListeners" "StreamListeners";
    "route.v3.RouteDiscoveryService" url!("config.route.v3.RouteConfiguration"),
        "DeltaRoutes" "StreamRoutes";
    "route.v3.ScopedRoutesDiscoveryService" url!("config.route.v3.ScopedRouteConfiguration"),
        "DeltaScopedRoutes" "StreamScopedRoutes";
    "route.v3.VirtualHostDiscoveryService" url!("config.route.v3.VirtualHost"),
        "DeltaVirtualHosts";
    "secret.v3.SecretDiscoveryService" url!("extensions.transport_sockets.tls.v3.Secret"),
        "DeltaSecrets" "StreamSecrets";
    "runtime.v3.RuntimeDiscoveryService" url!("service.runtime.v3.Runtime"),
        "DeltaRuntime" "StreamRuntime";
    "extension.v3.ExtensionConfigDiscoveryService" url!("config.core.v3.TypedExtensionConfig"),
        "DeltaExtensionConfigs" "StreamExtensionConfigs";
}
