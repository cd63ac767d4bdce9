//! Envoy's side: one renderer per kind of resource, and the assembly of what they render.

pub mod assembly;
mod canon;
pub mod cluster;
mod conditions;
pub mod door;
pub mod filter;
mod host;
pub mod listener;
mod member;
mod methods;
pub mod names;
mod path;
mod policy;
mod resource;
mod route;
pub mod scope;
mod type_url;
pub mod upstreams;

pub use resource::{Layout, Options, Rendered};
pub use type_url::{CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE};
