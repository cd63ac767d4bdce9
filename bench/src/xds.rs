//! `bench-xds`: our server and go-control-plane, fed the same changes over the same line protocol,
//! serving the same clients.
//!
//! Each resource has a mark: the number of its change (a *generation*) and the time when it was
//! made. Change g affects resource (g - 1) modulo their number, so everyone can compute what a
//! client should have.

mod cell;
mod client;
mod figures;
mod fleet;
mod holding;
pub mod lines;
mod mark;
mod matrix;
mod memory;
mod reading;
mod refusing;
mod round;
mod rounds;
mod server;
mod socket;
mod storms;

pub use self::cell::{Cell, Change};
pub use self::figures::figures;
pub use self::mark::{Kind, resource};
pub use self::matrix::{Trial, Work, full, quick, usual};
pub use self::memory::{Memory, memory};
pub use self::reading::{Reading, Readings};
pub use self::refusing::{Refusals, refusing};
pub use self::round::{Outcome, run};
pub use self::rounds::{Measured, Rules, measure};
pub use self::server::{Peers, Server, Subject};
pub use self::storms::{Crowd, Storm, Storms, storms};
