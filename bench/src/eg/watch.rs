//! When a change is seen by a caller. A plain thread, because a fraction of a millisecond is below the grain of an
//! async timer; it begins when the change was answered, and takes no core before.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::publish::Connection;

/// Between two calls.
const PERIOD: Duration = Duration::from_micros(500);

/// After this time a change counts as lost, not slow.
pub(super) const LOST: Duration = Duration::from_secs(60);

/// Calls until the answer has this status; returns when. Nothing if it never has.
pub(super) async fn until(
    gateway: SocketAddr,
    request: Vec<u8>,
    status: u16,
    limit: Duration,
) -> Result<Option<Instant>> {
    let polled = move || {
        let (mut connection, deadline) = (Connection::open(gateway)?, Instant::now() + limit);
        while Instant::now() < deadline {
            if connection.status(&request)? == status {
                return Ok(Some(Instant::now()));
            }
            std::thread::park_timeout(PERIOD);
        }
        Ok(None)
    };
    tokio::task::spawn_blocking(polled).await?
}

/// The same for what must come.
pub(super) async fn surely(gateway: SocketAddr, request: Vec<u8>, status: u16) -> Result<Instant> {
    let text = String::from_utf8_lossy(&request).into_owned();
    let seen = until(gateway, request, status, LOST).await?;
    ensure!(seen.is_some(), "not {status} within {LOST:?}: {text}");
    Ok(seen.unwrap_or_else(Instant::now))
}

pub(super) fn milliseconds(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64() * 1_000.0
}
