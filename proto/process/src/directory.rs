//! A directory with secrets: accessible only to its owner, even if it existed before.

use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// Creates it, or restricts its mode. Refuses another user's directory, whose owner could replace
/// its content.
pub fn prepare(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let found = std::fs::metadata(path)?;
    // The owner of our entry in /proc is our user.
    let ours = std::fs::metadata("/proc/self").map_or(found.uid(), |process| process.uid());
    if found.uid() != ours {
        let why = "it belongs to another user; name a directory of this program's own, for example one below it";
        return Err(Error::new(ErrorKind::PermissionDenied, why));
    }
    if found.mode() & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))?;
        tracing::warn!(path = %path.display(), mode = format!("{:o}", found.mode() & 0o777), "others could use this directory; now only its owner can");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn it_is_for_its_owner_alone_whether_it_was_there_or_not() {
        let directory = tempfile::tempdir().unwrap();
        let fresh = directory.path().join("a/b");
        prepare(&fresh).unwrap();
        assert_eq!(mode(&fresh), 0o700);
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o755)).unwrap();
        prepare(&fresh).unwrap();
        assert_eq!(mode(&fresh), 0o700);
    }

    #[test]
    fn another_users_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        if let Err(error) = std::os::unix::fs::chown(directory.path(), Some(12_345), None) {
            // Only root may change the owner of a directory.
            assert!(
                std::env::var_os("CI").is_none(),
                "CI runs as root, and must test this: {error}"
            );
            return;
        }
        let error = prepare(directory.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    }
}
