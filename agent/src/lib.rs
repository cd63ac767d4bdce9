//! The agent of a cluster: gets its configuration from the control plane, keeps it on disk, serves
//! it to the cluster's Envoys, decides about their calls, and reports the results.
//!
//! - [`link`]: the side to the control plane: registration, the delta stream, the report stream.
//! - [`lkg`]: the last-known-good on disk.
//! - [`ledger`]: the usage counts on disk.
//! - [`fleet`]: the side to Envoy: one resource set per group of Envoys, and who acknowledged what.
//! - [`port`]: the port that Envoys connect to: authentication and limits.
//! - [`gateway_api`]: publishes as objects of Kubernetes.
//! - [`attach`]: gateways on Gateways of Envoy Gateway, in Kubernetes.
//! - [`ext_authz`]: one decision per call, in Envoy's protocol.
//! - [`module`]: the same inside Envoy: what the module is told, and what it has counted.

pub mod accept_shrink;
pub mod admin;
pub mod app;
pub mod attach;
mod backoff;
pub mod bootstrap;
mod capabilities;
pub mod config;
pub mod ext_authz;
pub mod fleet;
pub mod gateway_api;
pub mod identity;
pub mod intake;
pub mod ledger;
pub mod link;
pub mod lkg;
pub mod module;
pub mod port;
pub mod upstreams;
pub mod usage;
