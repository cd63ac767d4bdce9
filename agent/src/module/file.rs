//! The file that the module starts from: written before Envoys are told of the module, and after
//! changes.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use imp_module::snapshot::Writer;
use tokio_util::sync::CancellationToken;

use super::feed::{Feed, Next};

/// The shortest pause between two files.
const PAUSE: Duration = Duration::from_secs(1);

/// A file is written for at most this part of the time.
const SHARE: u32 = 20;

/// Everything is there: writes the file, before any Envoy is told to read it, and tells modules.
/// Blocks.
pub(crate) fn open(feed: &Feed) {
    if feed.open() {
        write(feed, feed.snapshot());
    }
}

/// Writes the file. Returns whether it is there. Without it, an Envoy that starts refuses calls until
/// its module hears the agent.
fn write(feed: &Feed, path: &Path) -> bool {
    let written = try_write(feed, path);
    metrics::gauge!("imp_module_file_failing").set(if written.is_ok() { 0.0 } else { 1.0 });
    if let Err(error) = &written {
        tracing::error!(path = %path.display(), %error, "the module's file cannot be written");
    }
    written.is_ok()
}

fn try_write(feed: &Feed, path: &Path) -> io::Result<()> {
    let mut written = feed.written();
    let Next::Everything { version, items } = feed.next(0) else { return Ok(()) };
    if *written == Some(version) {
        return Ok(());
    }
    let mut writer = Writer::create(path)?;
    feed.parts(version, &items).try_for_each(|update| writer.update(&update))?;
    writer.finish()?;
    // The name is durable, too.
    path.parent().map_or(Ok(()), |directory| std::fs::File::open(directory)?.sync_all())?;
    *written = Some(version);
    Ok(())
}

/// Writes it after changes, until cancelled.
pub(super) async fn keep(feed: Feed, cancel: CancellationToken) {
    let mut news = feed.news();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = news.changed() => {}
        }
        let (started, writing) = (Instant::now(), feed.clone());
        let write = move || write(&writing, writing.snapshot());
        if !tokio::task::spawn_blocking(write).await.unwrap_or(false) {
            news.mark_changed();
        }
        let pause = PAUSE.max(started.elapsed() * SHARE);
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}
