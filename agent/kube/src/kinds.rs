//! The kinds of objects that the agent writes or reads. One table: requests are built from it, and so is
//! the role that the agent needs.

/// A kind of object in one version of its API.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// Empty for the core API.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub scope: Scope,
}

/// Where objects of a kind live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    Cluster,
    Namespaced,
}

const GATEWAY_API: &str = "gateway.networking.k8s.io";
const ENVOY_GATEWAY: &str = "gateway.envoyproxy.io";

const fn namespaced(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    plural: &'static str,
) -> Kind {
    Kind { group, version, kind, plural, scope: Scope::Namespaced }
}

pub static SECRET: Kind = namespaced("", "v1", "Secret", "secrets");
pub static SERVICE: Kind = namespaced("", "v1", "Service", "services");
pub static CONFIG_MAP: Kind = namespaced("", "v1", "ConfigMap", "configmaps");
pub static ENDPOINT_SLICE: Kind =
    namespaced("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices");
pub static GATEWAY_CLASS: Kind = Kind {
    scope: Scope::Cluster,
    ..namespaced(GATEWAY_API, "v1", "GatewayClass", "gatewayclasses")
};
pub static GATEWAY: Kind = namespaced(GATEWAY_API, "v1", "Gateway", "gateways");
pub static HTTP_ROUTE: Kind = namespaced(GATEWAY_API, "v1", "HTTPRoute", "httproutes");
pub static GRPC_ROUTE: Kind = namespaced(GATEWAY_API, "v1", "GRPCRoute", "grpcroutes");
pub static REFERENCE_GRANT: Kind =
    namespaced(GATEWAY_API, "v1beta1", "ReferenceGrant", "referencegrants");
pub static BACKEND_TLS_POLICY: Kind =
    namespaced(GATEWAY_API, "v1", "BackendTLSPolicy", "backendtlspolicies");
pub static ENVOY_PROXY: Kind = namespaced(ENVOY_GATEWAY, "v1alpha1", "EnvoyProxy", "envoyproxies");
pub static ENVOY_PATCH_POLICY: Kind =
    namespaced(ENVOY_GATEWAY, "v1alpha1", "EnvoyPatchPolicy", "envoypatchpolicies");
pub static BACKEND: Kind = namespaced(ENVOY_GATEWAY, "v1alpha1", "Backend", "backends");
pub static SECURITY_POLICY: Kind =
    namespaced(ENVOY_GATEWAY, "v1alpha1", "SecurityPolicy", "securitypolicies");
pub static BACKEND_TRAFFIC_POLICY: Kind =
    namespaced(ENVOY_GATEWAY, "v1alpha1", "BackendTrafficPolicy", "backendtrafficpolicies");
pub static CLIENT_TRAFFIC_POLICY: Kind =
    namespaced(ENVOY_GATEWAY, "v1alpha1", "ClientTrafficPolicy", "clienttrafficpolicies");
pub static HTTP_ROUTE_FILTER: Kind =
    namespaced(ENVOY_GATEWAY, "v1alpha1", "HTTPRouteFilter", "httproutefilters");

/// All of them.
pub static ALL: [&Kind; 17] = [
    &SECRET,
    &SERVICE,
    &CONFIG_MAP,
    &ENDPOINT_SLICE,
    &GATEWAY_CLASS,
    &GATEWAY,
    &HTTP_ROUTE,
    &GRPC_ROUTE,
    &REFERENCE_GRANT,
    &BACKEND_TLS_POLICY,
    &ENVOY_PROXY,
    &ENVOY_PATCH_POLICY,
    &BACKEND,
    &SECURITY_POLICY,
    &BACKEND_TRAFFIC_POLICY,
    &CLIENT_TRAFFIC_POLICY,
    &HTTP_ROUTE_FILTER,
];

impl Kind {
    /// `apiVersion` in objects.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// The kind with this `apiVersion` and `kind`, if the agent knows it.
    pub fn find(api_version: &str, kind: &str) -> Option<&'static Self> {
        ALL.into_iter().find(|known| known.kind == kind && known.api_version() == api_version)
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind)
    }
}
