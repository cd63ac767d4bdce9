//! The signal to stop.

use tokio::signal::unix::{SignalKind, signal};

/// SIGINT or SIGTERM, from now on: one that comes during the start ends what has started by then in
/// order, too.
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
