//! Tests of the translation: what is rendered, what changes with a change, and how the real Envoy
//! behaves with it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

mod fixtures;

mod assembly;
mod clusters;
mod door;
mod envoy;
mod envoy_gateway;
mod filters;
mod gateway_api;
#[path = "../../../../proto/grammar/tests/it/generated.rs"]
mod generated;
mod golden;
mod hosts;
mod modules;
mod parse;
mod random;
#[path = "../../../../proto/grammar/tests/it/reference.rs"]
mod reference;
mod resource_set;
mod tables;
