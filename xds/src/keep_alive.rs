//! Finding out that the other side is gone although the connection does not say so (R85).

use std::time::Duration;

use tonic::transport::{Endpoint, Server};

/// How often to ask for a sign of life over HTTP/2, and how long to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Between questions.
    pub interval: Duration,
    /// For the answer.
    pub timeout: Duration,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), timeout: Duration::from_secs(10) }
    }
}

/// As many streams as a connection may have: a proxy in between puts all clients on one (R86).
const MAX_STREAMS: u32 = 100_000;

/// As much of a request as is taken in before it is asked for, in bytes: a client that has to wait for
/// its place keeps the rest.
const READ_AHEAD: u32 = 64 << 10;

impl KeepAlive {
    /// For a server of [`crate::AdsServer`].
    pub fn on_server<L>(self, server: Server<L>) -> Server<L> {
        server
            .http2_keepalive_interval(Some(self.interval))
            .http2_keepalive_timeout(Some(self.timeout))
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(READ_AHEAD)
    }

    /// For a channel of [`crate::client::DeltaClient`].
    pub fn on_client(self, endpoint: Endpoint) -> Endpoint {
        endpoint
            .connect_timeout(self.timeout)
            .http2_keep_alive_interval(self.interval)
            .keep_alive_timeout(self.timeout)
            .keep_alive_while_idle(true)
    }
}
