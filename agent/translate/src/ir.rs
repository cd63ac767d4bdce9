//! The intermediate representation that every renderer (xDS now, Gateway API later) starts from.
//!
//! Values of these types are always well-formed: [`Gateway::parse`] and [`Publish::parse`] refuse
//! what a renderer could not render safely. The control plane has already checked everything; this
//! second check ensures that nothing that reaches an agent can break its Envoys.

mod backend;
mod error;
mod gateway;
mod grammar;
mod model;
mod order;
pub mod policy;
mod publish;
mod rewrite;
mod route;
mod settings;

pub use error::ParseError;
pub use grammar::Fault;
pub(crate) use grammar::METHODS;
pub use imp_grammar::hosts::EndpointHost;
pub use model::{
    AuthMode, Backend, Balance, Content, Delivery, Edge, Endpoint, EscapedSlash, Gateway, Listener,
    PathMatch, Publish, Route, Stream, ValueMatch, ValueRule, WeightedBackend,
};
pub use policy::Policies;
pub(crate) use rewrite::source as rewrite_source;
pub use settings::{Ejection, HealthCheck, RETRIES, Settings, Tls, Trust};
