//! From publishes to what a renderer makes of them. Pure: no I/O, no clock, no randomness.
//!
//! [`ir`] parses what came over the wire into types that cannot be malformed: the floor on which every
//! renderer stands. [`xds`] is the one renderer there is: it makes Envoy's resources of those types,
//! and its [`Assembly`] keeps the state of one agent's configuration, so that a change costs what it
//! touches, and a refusal falls back alone.

pub mod ir;
pub mod xds;

pub use xds::assembly::{self, Assembly, Blame, Delta, GatewayDelta};
pub use xds::upstreams::{Closed, Upstreams};
pub use xds::{Layout, Options, Rendered};
