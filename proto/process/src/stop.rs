//! The signal to stop.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves on SIGINT or SIGTERM, handled from now on: a signal during the start also ends what has
/// started in order.
pub fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
