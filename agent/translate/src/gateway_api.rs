//! The renderer for Gateway API: objects of Kubernetes, as JSON.
//!
//! A gateway becomes a `Gateway`, a publish becomes `HTTPRoute`s and, where the class has them, its
//! policies and backends. What a class cannot say is a [`Refusal`], never an object that matches
//! other calls. Who applies the objects is `imp-kube`.

mod backends;
mod duration;
mod entry;
mod filters;
mod gateway;
mod object;
mod plan;
mod precedence;
mod reach;
mod refusal;
mod routes;
mod security;
mod split;
mod traffic;

use imp_grammar::classes::Class;

use crate::Upstreams;
use crate::ir::EndpointHost;

pub use object::{CLUSTER, GATEWAY, MANAGED_BY, MANAGER, PUBLISH, REVISION, label};
pub use plan::Plan;
pub use refusal::Refusal;

/// What the objects depend on besides gateways and publishes.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where all objects live.
    pub namespace: String,
    /// The id of the cluster: a label, so that no other agent's objects are ours.
    pub cluster: String,
    /// The addresses that calls may be sent to.
    pub upstreams: Upstreams,
    /// Names that calls may be sent to, `*.` for what is below one. Nothing judges what a name
    /// resolves to once the class has it, so an operator must have listed it.
    pub names: Vec<String>,
}

/// The service that decides about calls: the agent's ext_authz, over TLS with certificates of the
/// agent's own authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decider {
    pub host: EndpointHost,
    pub port: u16,
    /// The authority of the agent's certificate, PEM.
    pub authority: String,
    /// The client certificate of the gateway's proxies and its key, PEM.
    pub certificate: String,
    pub key: String,
}

/// A gateway as the cluster has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployed {
    pub class: &'static Class,
    /// The name of the `GatewayClass`.
    pub name: String,
    /// Who decides about calls; without one, classes that could ask are like those that cannot.
    pub decider: Option<Decider>,
}

/// The name of the `Gateway` of a gateway.
pub fn gateway_name(id: &str) -> String {
    format!("imp-{}", object::label(id))
}
