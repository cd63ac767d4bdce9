//! Detects that the peer is gone although the connection does not show it (R85).

use std::time::Duration;

use tonic::transport::{Endpoint, Server};

/// The interval and the timeout of HTTP/2 pings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// The interval of pings.
    pub interval: Duration,
    /// The timeout of a ping.
    pub timeout: Duration,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), timeout: Duration::from_secs(10) }
    }
}

/// The most streams of a connection: a proxy in between puts all clients on one (R86).
const MAX_STREAMS: u32 = 100_000;

/// Bytes of a request that are received before it is read: a client that waits for its slot keeps
/// the rest.
const READ_AHEAD: u32 = 64 << 10;

impl KeepAlive {
    /// Configures a server of [`crate::AdsServer`].
    pub fn on_server<L>(self, server: Server<L>) -> Server<L> {
        server
            .http2_keepalive_interval(Some(self.interval))
            .http2_keepalive_timeout(Some(self.timeout))
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(READ_AHEAD)
    }

    /// Configures a channel of [`crate::client::DeltaClient`].
    pub fn on_client(self, endpoint: Endpoint) -> Endpoint {
        endpoint
            .connect_timeout(self.timeout)
            .http2_keep_alive_interval(self.interval)
            .keep_alive_timeout(self.timeout)
            .keep_alive_while_idle(true)
    }
}
