//! The types of resources for Envoy.

/// `Listener`: one per port; never changes with a publish, nor with a gateway that shares the port.
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// `Cluster`: one per tenant and distinct backend, named by both.
pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
/// `ScopedRouteConfiguration`: one per port and host.
pub const SCOPE: &str = "type.googleapis.com/envoy.config.route.v3.ScopedRouteConfiguration";
/// `RouteConfiguration`: one per content that several hosts share; in [`super::Layout::WholeRds`] one per
/// port.
pub const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// `TypedExtensionConfig` (ECDS): the filters in the listener's slots.
pub const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
