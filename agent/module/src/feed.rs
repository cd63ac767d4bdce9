//! What the agent tells the module: a snapshot, then changes, over the agent's Unix socket. The file
//! that the module starts from has the same messages ([`crate::snapshot`]).
//!
//! Frames are a length (four bytes, the least significant first) and a protobuf message. The module
//! says [`Hello`](message::Hello) with the version that it holds. The agent answers with the changes
//! since then, or with everything if it does not know that version; then with each change, and with
//! a ping every few seconds. The module says which version it has applied. When the agent is gone,
//! decisions go on from what is held.

mod apply;
mod client;
pub mod frame;
pub mod message;

pub(crate) use apply::Applier;
pub(crate) use client::start;
