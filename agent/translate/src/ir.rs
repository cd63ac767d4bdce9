//! The intermediate form: what every renderer (xDS now, Gateway API later) starts from.
//!
//! Values of these types cannot be malformed: [`Gateway::parse`] and [`Publish::parse`] refuse what
//! a renderer could not render safely. The control plane has checked all of it before; this is the
//! second fence, so that whatever reaches an agent cannot break its Envoys.

mod endpoint_host;
mod error;
mod gateway;
mod grammar;
mod model;
pub mod policy;
mod publish;
mod route;

pub use endpoint_host::EndpointHost;
pub use error::ParseError;
pub use grammar::Fault;
pub(crate) use grammar::{METHODS, variable};
pub use model::{
    AuthMode, Backend, Balance, Edge, Endpoint, EscapedSlash, Gateway, Listener, PathMatch,
    Publish, Route, ValueMatch, ValueRule, WeightedBackend,
};
pub use policy::Policies;
