//! The renderer for Envoy: one module per kind of resource, and the assembly of what they render.

pub mod assembly;
pub(crate) mod canon;
pub mod cluster;
mod conditions;
mod content;
pub mod door;
pub mod filter;
mod health;
mod host;
pub mod listener;
mod methods;
pub mod names;
mod path;
mod policy;
mod reach;
mod resource;
mod retry;
mod rewrite;
mod route;
pub mod scope;
pub mod table;
mod tls;
mod type_url;
mod upgrade;
pub mod upstreams;

pub use resource::{Door, Layout, Module, Options, Rendered};
pub(crate) use rewrite::{Rewritten, rewritten};
pub use type_url::{CLUSTER, EXTENSION, LISTENER, ROUTES, SCOPE};
