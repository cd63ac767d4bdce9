//! From publishes to Envoy's resources. Pure: no I/O, no clock, no randomness.
//!
//! Three steps: [`ir`] parses what came over the wire into types that cannot be malformed, [`xds`]
//! renders those, and [`Assembly`] keeps the state of one agent's configuration, so that a change
//! costs what it touches, and a refusal falls back alone.

pub mod assembly;
pub mod ir;
pub mod xds;

pub use assembly::{Assembly, Blame, Delta, GatewayDelta};
pub use xds::upstreams::{Closed, Upstreams};
pub use xds::{Layout, Options, Rendered};
