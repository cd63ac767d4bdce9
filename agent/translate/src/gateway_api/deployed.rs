//! What the objects depend on, and a gateway as a cluster has it.

use imp_grammar::classes::Class;

use super::object;
use crate::Upstreams;
use crate::ir::EndpointHost;

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
