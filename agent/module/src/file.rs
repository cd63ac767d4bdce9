//! The library as a file: found by the hash of its content, and verified before it is named to
//! Envoy, which verifies nothing.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The largest file that is read.
const MOST: u64 = 256 << 20;

/// What begins the text that each build of the module has in it: the version of the ABI and of the
/// product follow.
const MARK: &[u8] = b"imp-module:";

/// A library that Envoy may load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModuleFile {
    pub path: PathBuf,
    /// Of its content, in hexadecimal digits.
    pub sha256: String,
    pub bytes: u64,
    /// The version of Envoy's ABI that it is built for.
    pub abi: String,
    /// The version of the product.
    pub release: String,
    /// `x86_64` or `aarch64`.
    pub architecture: &'static str,
}

/// Why a file must not be loaded.
#[derive(Debug, Error)]
pub enum FileError {
    #[error("{path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{0} is not a module of this product")]
    Foreign(PathBuf),
    #[error("{path} is for {of}, and this machine is {machine}")]
    Architecture { path: PathBuf, of: &'static str, machine: &'static str },
    #[error("{path} has another content than its name says: {sha256}")]
    Altered { path: PathBuf, sha256: String },
}

/// The name of a module with this hash.
pub fn name(sha256: &str) -> String {
    format!("libimp-{sha256}.so")
}

/// Whether a name says which content the file has.
pub fn is_name(text: &str) -> bool {
    let hash = text.strip_prefix("libimp-").and_then(|rest| rest.strip_suffix(".so"));
    hash.is_some_and(|hash| hash.len() == 64 && hash.bytes().all(|it| it.is_ascii_hexdigit()))
}

impl ModuleFile {
    /// Reads a file under any name, as a build makes it.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        read(path).map(|(file, _)| file)
    }

    /// Reads a file under the name of its content, for this machine.
    pub fn verify(path: &Path) -> Result<Self, FileError> {
        let file = Self::read(path)?;
        let is_named = path.file_name().is_some_and(|it| it.to_str() == Some(&name(&file.sha256)));
        if !is_named {
            return Err(FileError::Altered { path: path.to_owned(), sha256: file.sha256 });
        }
        file.for_this_machine()
    }

    /// Copies a file into a directory under the name of its content; one that is there is verified. A
    /// name with another hash is refused.
    pub fn install(source: &Path, directory: &Path) -> Result<Self, FileError> {
        let (file, content) = read(source)?;
        let file = file.with_right_name()?.for_this_machine()?;
        let path = directory.join(name(&file.sha256));
        if let Ok(there) = Self::verify(&path) {
            return Ok(there);
        }
        let failed = |error| FileError::Io { path: path.clone(), error };
        let draft = path.with_extension("new");
        let mut options = File::options();
        options.write(true).create(true).truncate(true).mode(0o555);
        // A draft that a former attempt left behind cannot be opened for writing.
        let _gone = fs::remove_file(&draft);
        let mut out = options.open(&draft).map_err(failed)?;
        out.write_all(&content).and_then(|()| out.sync_all()).map_err(failed)?;
        fs::rename(&draft, &path).map_err(failed)?;
        Self::verify(&path)
    }

    /// Refuses one whose name says another content.
    fn with_right_name(self) -> Result<Self, FileError> {
        let said = self.path.file_name().and_then(|it| it.to_str()).filter(|it| is_name(it));
        if said.is_none_or(|said| said == name(&self.sha256)) {
            return Ok(self);
        }
        Err(FileError::Altered { path: self.path, sha256: self.sha256 })
    }

    fn for_this_machine(self) -> Result<Self, FileError> {
        let machine = std::env::consts::ARCH;
        if self.architecture == machine {
            return Ok(self);
        }
        Err(FileError::Architecture { path: self.path, of: self.architecture, machine })
    }
}

fn read(path: &Path) -> Result<(ModuleFile, Vec<u8>), FileError> {
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST).read_to_end(&mut content))
        .map_err(|error| FileError::Io { path: path.to_owned(), error })?;
    let foreign = || FileError::Foreign(path.to_owned());
    let (abi, release) = marked(&content).ok_or_else(foreign)?;
    let file = ModuleFile {
        path: path.to_owned(),
        sha256: Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect(),
        bytes: content.len() as u64,
        abi: abi.to_owned(),
        release: release.to_owned(),
        architecture: architecture(&content).ok_or_else(foreign)?,
    };
    Ok((file, content))
}

/// The versions of the ABI and of the product behind the mark.
fn marked(content: &[u8]) -> Option<(&str, &str)> {
    // The mark alone is in this code, too.
    let marks = content.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK);
    let mut texts = marks.filter_map(|(at, _)| {
        let text = content.get(at + MARK.len()..)?.split(|byte| *byte == b';').next()?;
        std::str::from_utf8(text.get(..text.len().min(64))?).ok()?.split_once(':')
    });
    texts.find(|(abi, _)| abi.starts_with('v'))
}

/// The machine of an ELF library with 64 bits, the least significant byte first.
fn architecture(content: &[u8]) -> Option<&'static str> {
    content.strip_prefix(b"\x7fELF\x02\x01")?;
    match content.get(18..20)? {
        [0x3e, 0] => Some("x86_64"),
        [0xb7, 0] => Some("aarch64"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(machine: u8) -> Vec<u8> {
        let mut content = b"\x7fELF\x02\x01".to_vec();
        content.resize(64, 0);
        content[18] = machine;
        content.extend_from_slice(b"imp-module: is in the code, too; imp-module:v0.2.0:0.1.0;rest");
        content
    }

    fn own() -> u8 {
        if cfg!(target_arch = "x86_64") { 0x3e } else { 0xb7 }
    }

    #[test]
    fn a_module_is_installed_under_the_name_of_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("libimp_module.so");
        fs::write(&source, module(own())).unwrap();
        let file = ModuleFile::install(&source, directory.path()).unwrap();
        assert_eq!((file.abi.as_str(), file.release.as_str()), ("v0.2.0", "0.1.0"));
        assert_eq!(file.path, directory.path().join(format!("libimp-{}.so", file.sha256)));
        assert_eq!(ModuleFile::install(&source, directory.path()).unwrap(), file);
        assert_eq!(ModuleFile::verify(&file.path).unwrap(), file);
    }

    #[test]
    fn an_altered_module_is_not_loaded_and_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        fs::write(&source, module(own())).unwrap();
        let file = ModuleFile::install(&source, directory.path()).unwrap();
        fs::remove_file(&file.path).unwrap();
        fs::write(&file.path, [module(own()), vec![1]].concat()).unwrap();
        let altered = ModuleFile::verify(&file.path);
        assert!(matches!(altered, Err(FileError::Altered { .. })), "{altered:?}");
        assert_eq!(ModuleFile::install(&source, directory.path()).unwrap(), file);
        let unnamed = ModuleFile::verify(&source);
        assert!(matches!(unnamed, Err(FileError::Altered { .. })), "{unnamed:?}");
        let elsewhere = tempfile::tempdir().unwrap();
        let wrong = directory.path().join(name(&"0".repeat(64)));
        fs::write(&wrong, module(own())).unwrap();
        let named = ModuleFile::install(&wrong, elsewhere.path());
        assert!(matches!(named, Err(FileError::Altered { .. })), "{named:?}");
    }

    #[test]
    fn what_is_no_module_of_ours_for_this_machine_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("source");
        let install = |content: &[u8]| {
            fs::write(&source, content).unwrap();
            ModuleFile::install(&source, directory.path())
        };
        assert!(matches!(install(b"no library"), Err(FileError::Foreign(_))));
        assert!(matches!(install(&module(own())[..70]), Err(FileError::Foreign(_))));
        assert!(matches!(install(&module(8)), Err(FileError::Foreign(_))));
        let other = if own() == 0x3e { 0xb7 } else { 0x3e };
        assert!(matches!(install(&module(other)), Err(FileError::Architecture { .. })));
        let missing = ModuleFile::read(&directory.path().join("missing"));
        assert!(matches!(missing, Err(FileError::Io { .. })));
    }
}
