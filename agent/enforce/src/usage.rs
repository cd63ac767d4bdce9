//! Who called what, how often: cumulative counters per UTC hour.

use serde::{Deserialize, Serialize};

/// The calls of one consumer to one publish in one hour, counted since the engine's counters began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Which publish.
    pub publish_id: String,
    /// Empty for a public publish.
    pub subscription_id: String,
    /// Empty for a public publish.
    pub consumer_id: String,
    /// Unix milliseconds of the hour's start.
    pub hour_ms: i64,
    /// Went to the upstream.
    pub allowed: u64,
    /// Refused with 429.
    pub limited: u64,
}

/// What must survive a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// All counters.
    pub counters: Vec<Counter>,
}
