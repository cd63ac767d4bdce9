//! The services of single types: the same server under other names, which tonic routes by.

use std::convert::Infallible;
use std::future::Ready;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::server::NamedService;
use tonic::service::Routes;
use tower::Service;

use super::AdsServer;

macro_rules! services {
    ($($name:ident $service:literal),* $(,)?) => {
        $(
            #[derive(Clone)]
            struct $name(AdsServer);

            impl NamedService for $name {
                const NAME: &'static str = concat!("envoy.service.", $service, "DiscoveryService");
            }

            impl Service<http::Request<Body>> for $name {
                type Response = http::Response<Body>;
                type Error = Infallible;
                type Future = Ready<Result<Self::Response, Infallible>>;

                fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                    Poll::Ready(Ok(()))
                }

                fn call(&mut self, request: http::Request<Body>) -> Self::Future {
                    self.0.call(request)
                }
            }
        )*

        /// The services of single types.
        pub const SINGLE_TYPE_SERVICES: &[&str] = &[$($name::NAME),*];

        pub(super) fn with(server: &AdsServer, wanted: &[&str]) -> Routes {
            let mut routes = Routes::new(server.clone());
            $(if wanted.contains(&$name::NAME) {
                routes = routes.add_service($name(server.clone()));
            })*
            routes
        }
    };
}

services! {
    Clusters "cluster.v3.Cluster",
    Endpoints "endpoint.v3.Endpoint",
    Listeners "listener.v3.Listener",
    RouteConfigurations "route.v3.Route",
    ScopedRoutes "route.v3.ScopedRoutes",
    VirtualHosts "route.v3.VirtualHost",
    Secrets "secret.v3.Secret",
    Runtime "runtime.v3.Runtime",
    ExtensionConfigs "extension.v3.ExtensionConfig",
}
