//! The engine inside Envoy: a dynamic module with two extensions.
//!
//! - `door`, an HTTP filter: decides about each call with [`imp_enforce::Engine`] (`door.rs`).
//! - `host`, an early header mutation: writes the host's part of the scope's key for every spelling
//!   of a host ([`hosts`]).
//!
//! Both share one [`state::State`] per process, which comes from a file ([`snapshot`]) and from the
//! agent ([`feed`]). `hooks` has the functions that Envoy calls; with `abi`, `envoy` and the
//! mapping of [`counters`] it is the only place of the product with `unsafe`.

mod abi;
mod answer;
pub mod call;
pub mod config;
pub mod counters;
mod door;
mod envoy;
mod faults;
pub mod feed;
pub mod file;
mod hooks;
pub mod host;
pub mod hosts;
pub mod matrix;
pub mod snapshot;
mod space;
mod start;
pub mod state;
mod upload;

#[cfg(test)]
mod mock;

pub use abi::{EARLY_NAMES, NAMES, VERSION};
pub use matrix::TESTED;
