//! The library as a file.

use std::path::{Path, PathBuf};

use imp_module::file::{FileError, ModuleFile};
use imp_translate::Module;
use serde_json::json;
use thiserror::Error;

use crate::port::Address;

/// Why the module cannot decide about calls.
#[derive(Debug, Error)]
pub enum ModuleError {
    /// Nobody said where it is.
    #[error("--door module: --module FILE is missing (make module builds it)")]
    Missing,
    /// Its Envoys cannot read what the agent writes.
    #[error(
        "--door module: Envoy must run on this machine as the agent's user, so neither --xds-listen ADDR:PORT nor --envoy-uid can be used with it"
    )]
    Elsewhere,
    /// The file must not be loaded.
    #[error("--module cannot be used")]
    File(#[from] FileError),
    /// The agent and the module of one release understand each other.
    #[error(
        "--module {path} is of release {release} for Envoy's ABI {abi}; this agent is {own} for {own_abi}"
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

/// The places of the module in the state directory.
#[derive(Clone, Debug)]
pub struct Installed {
    file: ModuleFile,
    directory: PathBuf,
}

impl Installed {
    /// Copies the library into the state directory, under the name of its content, and verifies it.
    pub fn new(library: Option<&Path>, state_dir: &Path) -> Result<Self, ModuleError> {
        let library = library.ok_or(ModuleError::Missing)?;
        // Envoy has another working directory.
        let state_dir = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        let directory = state_dir.join("module");
        let failed = |why| ModuleError::Directory { path: directory.clone(), why };
        std::fs::create_dir_all(&directory).map_err(failed)?;
        let file = of_this_release(ModuleFile::install(library, &directory)?, library)?;
        Ok(Self { file, directory })
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
            "snapshot": self.snapshot(),
            "feed": self.socket(),
            "counters": self.counters(),
        });
        let file = self.file.path.display().to_string();
        Module { file, state: state.to_string() }
    }

    /// Whose counts the modules' are.
    pub(crate) fn owner(&self) -> PathBuf {
        self.directory.join("owner.json")
    }

    pub(crate) fn snapshot(&self) -> PathBuf {
        self.directory.join("snapshot")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join("feed.sock")
    }

    pub(crate) fn counters(&self) -> PathBuf {
        self.directory.join("counters")
    }
}

fn of_this_release(file: ModuleFile, library: &Path) -> Result<ModuleFile, ModuleError> {
    let (own, own_abi) = (env!("CARGO_PKG_VERSION"), imp_module::VERSION);
    if file.release == own && file.abi == own_abi {
        return Ok(file);
    }
    let (path, release, abi) = (library.to_owned(), file.release, file.abi);
    Err(ModuleError::Release { path, release, abi, own, own_abi })
}

/// Whether the module was tested with this version of Envoy.
pub(crate) fn is_tested(envoy: &str) -> bool {
    imp_module::TESTED.iter().any(|tested| {
        envoy.strip_prefix(tested).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// A library, for people.
pub fn described(library: &Path) -> Result<String, ModuleError> {
    let file = of_this_release(ModuleFile::read(library)?, library)?;
    Ok(format!(
        "path: {}\nsha256: {}\nbytes: {}\nabi: {}\nrelease: {}\narchitecture: {}\nenvoy: {}",
        file.path.display(),
        file.sha256,
        file.bytes,
        file.abi,
        file.release,
        file.architecture,
        imp_module::TESTED.join(", "),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_matrix_has_whole_versions() {
        for (version, tested) in
            [("1.40.0", true), ("1.40", true), ("1.4.0", false), ("1.400.1", false), ("", false)]
        {
            assert_eq!(is_tested(version), tested, "{version}");
        }
    }

    #[test]
    fn only_an_envoy_that_can_read_the_agents_files_gets_it() {
        let local = Address::Unix("/run/xds.sock".into());
        assert!(Installed::suits(&local, &[]).is_ok());
        assert!(Installed::suits(&local, &[101]).is_err());
        assert!(Installed::suits(&Address::Tcp("127.0.0.1:1".parse().unwrap()), &[]).is_err());
    }
}
