//! `bench-xds`: our server and go-control-plane, fed the same changes over the same line protocol,
//! serving the same clients.
//!
//! Each resource carries a mark: which change it is (a *generation*) and when it was made. Change g
//! goes to resource (g - 1) modulo their number, so everyone can tell what a client should hold.

mod cell;
mod client;
mod mark;
mod server;

pub use self::cell::{Cell, Change, Outcome, Storms, memory, run, storms};
pub use self::mark::{Kind, resource};
pub use self::server::{Peers, Server, Subject};
