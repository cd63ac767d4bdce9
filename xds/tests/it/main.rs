//! Tests of the protocol. Each R-id of the README's table is in the name or comment of the test for
//! it.

#![expect(clippy::expect_used, clippy::panic, reason = "a failed expectation is a failed test")]

mod batches;
mod corpus;
mod crowd;
mod debounce;
mod delta;
mod envoy;
mod first_answers;
mod interleavings;
mod ordering;
mod peer;
mod puller;
mod replaced;
mod required;
mod routes;
mod shapes;
mod sockets;
mod sotw;
mod splitting;
mod support;
mod table;
mod ttl;
mod virtual_hosts;
mod wire;
