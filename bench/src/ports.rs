//! Ports for processes that need to know theirs in advance.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Below the kernel's range for outgoing connections, so that nothing takes a port between our
/// check and the process that binds it; concurrent runs begin at different ports.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

/// No gateway may listen on these (`--reserved-ports`).
const RESERVED: [u16; 3] = [18_000, 18_001, 19_901];

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port of 127.0.0.1 without a listener; never the same one twice in a process.
pub fn free() -> Result<u16> {
    let width = RANGE.end - RANGE.start;
    let start = (std::process::id().wrapping_mul(1_009) % u32::from(width)) as u16;
    for _ in 0..width {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = RANGE.start + (start.wrapping_add(step)) % width;
        if !RESERVED.contains(&port) && TcpListener::bind(local(port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {} and {}", RANGE.start, RANGE.end)
}

/// The port on the loopback address.
pub fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
