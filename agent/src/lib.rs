//! The agent of a cluster: takes its configuration from the control plane, keeps it on disk, serves
//! it to the cluster's Envoys, decides about their calls, and reports what became of it all.
//!
//! - [`link`]: towards the control plane: registration, the delta stream, the report stream.
//! - [`lkg`]: the last-known-good on disk.
//! - [`ledger`]: what was counted, on disk.
//! - [`fleet`]: towards Envoy: one resource set per group of Envoys, and who acknowledged what.
//! - [`port`]: where Envoys connect: who they are, and what they may use up.
//! - [`ext_authz`]: one decision per call, as Envoy asks for it.

pub mod accept_shrink;
pub mod admin;
pub mod app;
mod backoff;
pub mod bootstrap;
mod capabilities;
pub mod config;
pub mod ext_authz;
pub mod fleet;
pub mod identity;
pub mod intake;
pub mod ledger;
pub mod link;
pub mod lkg;
pub mod port;
pub mod upstreams;
pub mod usage;
