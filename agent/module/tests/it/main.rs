//! Tests of the module in a real Envoy, from a bootstrap of their own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

mod agent;
mod bootstrap;
mod conformance;
mod cost;
mod counts;
mod envoy;
mod feed;
mod fixtures;
mod flips;
mod hosts;
mod loading;
mod uploads;
