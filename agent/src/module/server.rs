//! The socket of the feed. The state directory is closed to other users, and the kernel tells who
//! connects.

use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use imp_grammar::caps::NODE_STREAMS;
use imp_module::feed::message::{Forget, FromAgent, FromModule, Hello, PROTOCOL, Ping, Said, Told};
use prost::Message;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::feed::{Feed, Next};
use super::file;

/// The module says little.
const LARGEST: usize = 4096;

/// How often a module hears something; after 10 s of silence it reconnects.
const PING: Duration = Duration::from_secs(3);

/// How long a module may take for a message.
const PATIENCE: Duration = Duration::from_secs(10);

/// After an error of the kernel that will pass.
const PAUSE: Duration = Duration::from_millis(50);

/// Binds the socket. The lock on the last-known-good excludes a second agent.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves it, and keeps the file, until cancelled.
pub(crate) async fn serve(listener: UnixListener, feed: Feed, cancel: CancellationToken) {
    let keeping = tokio::spawn(file::keep(feed.clone(), cancel.clone()));
    let own = own_user(&listener);
    let places = Arc::new(Semaphore::new(NODE_STREAMS.size()));
    loop {
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let user = stream.peer_cred().ok().map(|peer| peer.uid());
        if user.is_none() || user != own {
            tracing::warn!(?user, "a module of another user was refused");
            continue;
        }
        let Ok(place) = places.clone().try_acquire_owned() else {
            tracing::warn!("there are too many modules");
            continue;
        };
        let (feed, cancel) = (feed.clone(), cancel.clone());
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                ended = listen(stream, feed) => if let Err(error) = ended {
                    tracing::info!(%error, "a module left");
                },
                () = cancel.cancelled() => {}
            }
        });
    }
    let _ended = keeping.await;
}

/// The owner of the socket.
fn own_user(listener: &UnixListener) -> Option<u32> {
    let address = listener.local_addr().ok()?;
    Some(std::fs::metadata(address.as_pathname()?).ok()?.uid())
}

/// One module.
async fn listen(stream: UnixStream, feed: Feed) -> io::Result<()> {
    let (mut reader, writer) = stream.into_split();
    let hello = within(PATIENCE, hello(&mut reader)).await?;
    if hello.protocol != PROTOCOL {
        return Err(io::Error::other("it is of another release"));
    }
    let (number, since, hang_up) = feed.join(&hello.history, hello.version);
    let gone = Gone(&feed, number);
    tokio::select! {
        ended = tell(writer, &feed, since) => ended?,
        ended = hear(reader, &feed, number) => ended?,
        () = hang_up.cancelled() => return Err(io::Error::other("it did not take a change")),
    }
    drop(gone);
    Ok(())
}

/// A module that is gone is not waited for.
struct Gone<'a>(&'a Feed, u64);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

async fn hello(reader: &mut OwnedReadHalf) -> io::Result<Hello> {
    match read(reader).await?.said {
        Some(Said::Hello(hello)) => Ok(hello),
        _ => Err(io::Error::other("it said something else first")),
    }
}

async fn hear(mut reader: OwnedReadHalf, feed: &Feed, number: u64) -> io::Result<()> {
    loop {
        if let Some(Said::Applied(applied)) = read(&mut reader).await?.said {
            feed.has_applied(number, applied.version);
        }
    }
}

async fn tell(mut writer: OwnedWriteHalf, feed: &Feed, mut since: u64) -> io::Result<()> {
    let mut news = feed.news();
    let mut forgotten = None;
    loop {
        news.mark_unchanged();
        match feed.next(since) {
            Next::Everything { version, items } => {
                metrics::counter!("imp_module_snapshots_total").increment(1);
                for part in feed.parts(version, &items) {
                    write(&mut writer, Told::Update(part)).await?;
                }
                since = version;
                continue;
            }
            Next::Change(update) => {
                since = update.version;
                write(&mut writer, Told::Update(update)).await?;
                continue;
            }
            Next::Nothing => {}
        }
        let forget = feed.forgotten();
        if let Some(before_ms) = forget.filter(|_| forget != forgotten) {
            write(&mut writer, Told::Forget(Forget { before_ms })).await?;
            forgotten = forget;
        }
        if tokio::time::timeout(PING, news.changed()).await.is_err() {
            write(&mut writer, Told::Ping(Ping {})).await?;
        }
    }
}

async fn read(reader: &mut OwnedReadHalf) -> io::Result<FromModule> {
    let length = reader.read_u32_le().await? as usize;
    if length > LARGEST {
        return Err(io::Error::other("its message is too large"));
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).await?;
    FromModule::decode(bytes.as_slice()).map_err(io::Error::other)
}

async fn write(writer: &mut OwnedWriteHalf, told: Told) -> io::Result<()> {
    let mut bytes = Vec::new();
    imp_module::feed::frame::write(&mut bytes, &FromAgent::from(told))?;
    within(PATIENCE, writer.write_all(&bytes)).await
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    tokio::time::timeout(limit, work).await.map_err(late)?
}
