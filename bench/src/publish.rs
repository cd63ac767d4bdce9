//! `publish_to_serve`: the time from requesting a publish until every worker of a real Envoy serves
//! it. Three subjects in one run: ours, a bare stub (the floor), and the usual layout.

mod floor;
mod ours;
mod probe;

pub use self::floor::Floor;
pub use self::ours::{Ours, timed_post};
#[cfg(feature = "kube")]
pub(crate) use self::probe::Connection;
pub use self::probe::{Poll, Probes};
use crate::report::Times;

/// One run, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From the request sent until every worker answers 200.
    pub from_post: f64,
    /// From the answer to the request (after the commit) until the same; not below 0, because the
    /// change may be served before the answer is read.
    pub from_commit: f64,
    /// From the request sent until its answer.
    pub to_commit: f64,
}

/// Many runs.
#[derive(Clone, Debug, Default)]
pub struct Timings {
    /// See [`Timing::from_post`].
    pub from_post: Times,
    /// See [`Timing::from_commit`].
    pub from_commit: Times,
    /// See [`Timing::to_commit`].
    pub to_commit: Times,
}

impl Timings {
    /// Adds a run.
    pub fn push(&mut self, timing: Timing) {
        self.from_post.0.push(timing.from_post);
        self.from_commit.0.push(timing.from_commit);
        self.to_commit.0.push(timing.to_commit);
    }
}

/// The host of a run; one publish per host.
pub fn host(index: usize) -> String {
    format!("h{index}.bench.example")
}

/// The bytes of one publish on each hop.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bytes {
    /// Control plane to agent.
    pub to_agent: f64,
    /// Agent (or stub) to Envoy.
    pub to_envoy: f64,
}
