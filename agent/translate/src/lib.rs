//! Renders publishes for a data plane. Pure: no I/O, no clock, no randomness.
//!
//! [`ir`] parses messages into types that are always well-formed and that every renderer starts
//! from. [`xds`] makes Envoy's resources of those types, and its [`Assembly`] keeps the state of one
//! agent's configuration, so that the cost of a change depends only on what it affects, and a
//! rejected publish falls back alone. [`gateway_api`] makes objects of Kubernetes of them, and
//! [`envoy_gateway`] those that lead calls from the Envoys of an Envoy Gateway to ours.

pub mod envoy_gateway;
pub mod gateway_api;
pub mod ir;
pub mod xds;

pub use xds::assembly::{self, Assembly, Blame, Delta, GatewayDelta};
pub use xds::upstreams::{Closed, Upstreams};
pub use xds::{Door, Layout, Module, Options, Rendered};
