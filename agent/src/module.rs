//! The agent's side of the module inside Envoy (`agent/module`), which decides about calls in the
//! agent's place: what it is told, what it starts from, and what it has counted.
//!
//! - `install`: the library as a file, and what Envoy is told of it.
//! - `feed`: what the module must know, and what has changed since a version.
//! - `server`: the socket over which modules hear it.
//! - `file`: the same on disk, for an Envoy that starts.
//! - `counted`: the counts of modules, for the usage reports.

mod counted;
mod feed;
mod file;
mod install;
mod server;

pub(crate) use counted::Batch;
pub use counted::Counted;
pub use feed::Feed;
pub use install::{Directory, Installed, ModuleError, described};

pub(crate) use self::file::open;
pub(crate) use server::{bind, serve};
