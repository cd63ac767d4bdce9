//! How cost and memory grow with the number of publishes: all of them loaded through REST, one agent,
//! and real Envoys that serve them.

mod accepted;
mod burst;
mod caller;
mod contents;
mod edit;
mod figures;
mod measure;
mod restart;
mod setup;
mod subject;
mod timed;
mod traffic;
mod walk;

use serde::Serialize;

pub use self::accepted::{Accepted, accepted};
pub use self::burst::{Burst, burst};
pub use self::contents::{Bulk, Contents};
pub use self::edit::{Edit, edit};
pub use self::figures::{figures, growth};
pub use self::measure::{Measured, measure};
pub use self::restart::{Restart, from_disk, reconnected};
pub use self::setup::Setup;
pub use self::timed::timed;
pub use self::traffic::{Call, Calls, Traffic};
pub use self::walk::{Expected, everywhere};

/// One run: how many publishes, and of what.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub contents: Contents,
    pub publishes: usize,
    pub envoys: u32,
    /// Worker threads of each Envoy.
    pub workers: u32,
    /// The agent's `--layout`; its default if there is none.
    pub layout: Option<String>,
    /// Publishes that are made and timed one after another.
    pub timed: usize,
    /// Publishes that are loaded while Envoys are connected.
    pub live: usize,
    /// Publishes of the service that is edited.
    pub edited: usize,
    /// The most keys that are revoked during the burst.
    pub keys: usize,
    /// The most publishes that are made one at a time during the burst.
    pub lone: usize,
    /// Calls per second on other hosts during the burst.
    pub calls: u32,
}

/// Milliseconds from one time to a later one.
fn milliseconds(from: tokio::time::Instant, to: tokio::time::Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1000.0
}
