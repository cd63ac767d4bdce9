//! The SQLite file: readable by its owner only, and still the one that was opened.

use std::fs::{self, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::{Result, StoreError};

/// Identifies an open file, to detect that its path now names another one.
pub(crate) struct DatabaseFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl DatabaseFile {
    /// The file that is at the path now.
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        let there = fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), device: there.dev(), inode: there.ino() })
    }

    /// Checks that the file is still at its path. Writes to a removed or replaced file would be
    /// lost with the last connection.
    pub(crate) fn check(&self) -> Result<()> {
        let is_same = |there: &Metadata| (there.dev(), there.ino()) == (self.device, self.inode);
        match fs::metadata(&self.path) {
            Ok(there) if is_same(&there) => Ok(()),
            Ok(_) => Err(self.gone("was replaced")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.gone("was removed")),
            Err(error) => Err(StoreError::Unavailable(format!("{}: {error}", self.path.display()))),
        }
    }

    fn gone(&self, what: &str) -> StoreError {
        StoreError::Replaced(format!(
            "the database file {} {what} while it was open; put it back, or restart",
            self.path.display()
        ))
    }
}

/// Creates the file, readable by its owner only because it holds hashes of secrets. Restricts the
/// mode of an existing file that others may read.
pub(crate) fn prepare(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(there) if there.is_file() && there.mode() & 0o077 != 0 => {
            return fs::set_permissions(path, Permissions::from_mode(0o600));
        }
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::create_dir_all(folder)?;
    }
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map(drop)
}
