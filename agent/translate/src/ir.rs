//! The intermediate form: what every renderer (xDS now, Gateway API later) starts from.
//!
//! Values of these types cannot be malformed: [`Gateway::parse`] and [`Publish::parse`] refuse what
//! a renderer could not render safely. The control plane has checked all of it before; this is the
//! second fence, so that whatever reaches an agent cannot break its Envoys.

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
    AuthMode, Backend, Balance, Edge, Endpoint, EscapedSlash, Gateway, Listener, PathMatch,
    Publish, Route, Stream, ValueMatch, ValueRule, WeightedBackend,
};
pub use policy::Policies;
pub(crate) use rewrite::source as rewrite_source;
pub use settings::{Ejection, HealthCheck, RETRIES, Settings, Tls, Trust};
