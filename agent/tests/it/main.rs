//! Tests of the agent, in process, between a test control plane and Envoys: simulated ones where a
//! verdict matters, the real one where calls do.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod control;
mod disk;
mod door;
mod doors;
mod envoy;
mod fake_envoy;
mod fixtures;
mod gateway_api;
mod gateways;
mod hosts;
mod memory;
mod module;
mod places;
mod port;
mod program;
mod publishing;
mod registration;
mod restart;
mod rig;
mod rules;
mod shrink;
mod tls;
mod usage;
mod verdicts;
