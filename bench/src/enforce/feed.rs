//! The agent's end of the feed, without an agent.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use anyhow::{Result, ensure};
use imp_module::feed::frame;
use imp_module::feed::message::{FromAgent, FromModule, Hello, Item, Named, Said, Told, Update};

use super::contents::update;
use crate::stack::PATIENCE;

/// A module that listens.
pub(super) struct Feed {
    writer: UnixStream,
    reader: std::io::BufReader<UnixStream>,
    version: u64,
}

impl Feed {
    /// Waits for the module of an Envoy that has read version 1 from its file.
    pub(super) fn accept(socket: &Path) -> Result<Self> {
        let listener = UnixListener::bind(socket)?;
        let (writer, _) = listener.accept()?;
        writer.set_read_timeout(Some(PATIENCE))?;
        writer.set_write_timeout(Some(PATIENCE))?;
        let mut reader = std::io::BufReader::new(writer.try_clone()?);
        let first: FromModule = frame::read(&mut reader)?;
        let Some(Said::Hello(Hello { version, .. })) = first.said else {
            anyhow::bail!("the module did not say hello")
        };
        ensure!(version == 1, "the module has version {version}, not that of its file");
        Ok(Self { writer, reader, version })
    }

    /// Writes one change.
    pub(super) fn tell(&mut self, put: Vec<Item>, remove: Vec<Named>) -> Result<()> {
        let remove = remove.into_iter().map(Into::into).collect();
        let change = Update { put, remove, ..update(self.version, self.version + 1) };
        self.version += 1;
        Ok(frame::write(&mut self.writer, &FromAgent::from(Told::Update(change)))?)
    }

    /// Waits until the module has applied all that was written.
    pub(super) fn applied(&mut self) -> Result<()> {
        loop {
            let said: FromModule = frame::read(&mut self.reader)?;
            let Some(Said::Applied(applied)) = said.said else { continue };
            if applied.version == self.version {
                return Ok(());
            }
        }
    }
}
