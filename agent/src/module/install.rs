//! The library as a file, and its places in the state directory.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use imp_module::file::{self, FileError, ModuleFile};
use imp_module::matrix;
use imp_translate::Module;
use serde_json::json;
use thiserror::Error;

use crate::port::Address;

/// Why the module cannot decide about calls.
#[derive(Debug, Error)]
pub enum ModuleError {
    /// Nobody said where it is.
    #[error("no module: --module names none, and none is beside imp-agent as libimp-SHA256.so")]
    Missing,
    /// Its Envoys cannot read what the agent writes.
    #[error(
        "the module needs Envoy on this machine as the agent's user: neither --xds-listen ADDR:PORT nor --envoy-uid can be used with it"
    )]
    Elsewhere,
    /// The file must not be loaded.
    #[error("{0}")]
    File(FileError),
    /// The agent and the module of one release understand each other.
    #[error(
        "the module {path} is of release {release} for Envoy's ABI {abi}; this agent is {own} for {own_abi}"
    )]
    Release {
        path: PathBuf,
        release: String,
        abi: String,
        own: &'static str,
        own_abi: &'static str,
    },
    /// Its directory cannot be used.
    #[error("cannot use {path}: {why}")]
    Directory { path: PathBuf, why: std::io::Error },
}

impl From<FileError> for ModuleError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

/// The places of the module in the state directory.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    pub fn within(state_dir: &Path) -> Self {
        // Envoy has another working directory.
        let state_dir = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        Self { path: state_dir.join("module") }
    }

    /// Whether a module has been used here.
    pub(crate) fn exists(&self) -> bool {
        self.path.is_dir()
    }

    /// Whose counts the modules' are.
    pub(crate) fn owner(&self) -> PathBuf {
        self.path.join("owner.json")
    }

    pub(crate) fn snapshot(&self) -> PathBuf {
        self.path.join("snapshot")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join("feed.sock")
    }

    pub(crate) fn counters(&self) -> PathBuf {
        self.path.join("counters")
    }
}

/// A verified module in the state directory.
#[derive(Clone, Debug)]
pub struct Installed {
    file: ModuleFile,
    stamp: Option<Stamp>,
    directory: Directory,
}

/// Changes whenever the file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    written: (i64, i64),
}

impl Installed {
    /// Copies the library into the state directory, under the name of its content, and verifies it.
    /// Without a name, the one beside this program.
    pub fn new(library: Option<&Path>, directory: Directory) -> Result<Self, ModuleError> {
        let library = named_or_beside(library)?;
        let path = &directory.path;
        let failed = |why| ModuleError::Directory { path: path.clone(), why };
        std::fs::create_dir_all(path).map_err(failed)?;
        let installed = ModuleFile::install(&library, path).map_err(ModuleError::from);
        let file =
            installed.and_then(|file| of_this_release(file, &library)).inspect_err(|_| {
                // Only if nothing is in it: for a file that cannot be used nothing is made.
                let _in_use = std::fs::remove_dir(path);
            })?;
        Ok(Self { stamp: stamp(&file.path), file, directory })
    }

    /// Whether Envoys at this address can use it.
    pub fn suits(xds: &Address, users: &[u32]) -> Result<(), ModuleError> {
        match xds {
            Address::Unix(_) if users.is_empty() => Ok(()),
            _ => Err(ModuleError::Elsewhere),
        }
    }

    /// What Envoy is told.
    pub fn rendered(&self) -> Module {
        let state = json!({
            "snapshot": self.directory.snapshot(),
            "feed": self.directory.socket(),
            "counters": self.directory.counters(),
        });
        let file = self.file.path.display().to_string();
        Module { file, state: state.to_string() }
    }

    /// The file that Envoy loads.
    pub fn file(&self) -> &ModuleFile {
        &self.file
    }

    /// Whether nobody has touched the file since it was verified.
    pub(crate) fn is_intact(&self) -> bool {
        self.stamp.is_some() && stamp(&self.file.path) == self.stamp
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let it = std::fs::metadata(path).ok()?;
    Some(Stamp { inode: it.ino(), bytes: it.len(), written: (it.mtime(), it.mtime_nsec()) })
}

/// A release has the module beside the agent, under the name of its content.
fn named_or_beside(library: Option<&Path>) -> Result<PathBuf, ModuleError> {
    if let Some(named) = library {
        return Ok(named.to_owned());
    }
    let program = std::env::current_exe().ok();
    let folder = program.as_deref().and_then(Path::parent).ok_or(ModuleError::Missing)?;
    beside(folder)
}

/// The first one in a folder that can be used, or why the first one cannot.
fn beside(folder: &Path) -> Result<PathBuf, ModuleError> {
    let entries = std::fs::read_dir(folder).map_err(|_| ModuleError::Missing)?;
    let mut all: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    all.retain(|path| path.file_name().and_then(|it| it.to_str()).is_some_and(file::is_name));
    all.sort();
    let mut first = ModuleError::Missing;
    for path in all {
        match verified(&path) {
            Ok(_) => return Ok(path),
            Err(error) if matches!(first, ModuleError::Missing) => first = error,
            Err(_) => {}
        }
    }
    Err(first)
}

/// A name with a hash says which content the file must have.
fn verified(library: &Path) -> Result<ModuleFile, ModuleError> {
    let name = library.file_name().and_then(|name| name.to_str());
    let file = match name.is_some_and(file::is_name) {
        true => ModuleFile::verify(library)?,
        false => ModuleFile::read(library)?,
    };
    of_this_release(file, library)
}

fn of_this_release(file: ModuleFile, library: &Path) -> Result<ModuleFile, ModuleError> {
    let (own, own_abi) = (env!("CARGO_PKG_VERSION"), imp_module::VERSION);
    if file.release == own && file.abi == own_abi {
        return Ok(file);
    }
    let (path, release, abi) = (library.to_owned(), file.release, file.abi);
    Err(ModuleError::Release { path, release, abi, own, own_abi })
}

/// A library, for people.
pub fn described(library: Option<&Path>) -> Result<String, ModuleError> {
    let library = named_or_beside(library)?;
    let file = verified(&library)?;
    Ok(format!(
        "path: {}\nsha256: {}\nbytes: {}\nabi: {}\nrelease: {}\narchitecture: {}\nenvoy: {}",
        file.path.display(),
        file.sha256,
        file.bytes,
        file.abi,
        file.release,
        file.architecture,
        matrix::described(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_envoy_that_can_read_the_agents_files_gets_it() {
        let local = Address::Unix("/run/xds.sock".into());
        assert!(Installed::suits(&local, &[]).is_ok());
        assert!(Installed::suits(&local, &[101]).is_err());
        assert!(Installed::suits(&Address::Tcp("127.0.0.1:1".parse().unwrap()), &[]).is_err());
    }

    #[test]
    fn a_folder_without_a_module_or_with_a_damaged_one_says_so() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(beside(folder.path()), Err(ModuleError::Missing)));
        std::fs::write(folder.path().join("libimp_module.so"), "not named by its content").unwrap();
        assert!(matches!(beside(folder.path()), Err(ModuleError::Missing)));
        let damaged = folder.path().join(file::name(&"0".repeat(64)));
        std::fs::write(&damaged, "damaged").unwrap();
        let error = beside(folder.path()).unwrap_err();
        assert!(matches!(error, ModuleError::File(_)), "{error}");
        let error = described(Some(&damaged)).unwrap_err().to_string();
        assert!(error.contains("libimp-000") && !error.contains('\n'), "{error}");
    }
}
