//! Files with secrets: created readable by their owner only, and written completely or not at all.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// The largest secret.
const MOST: u64 = 64 * 1024;

/// Replaces the file atomically. The mode of an existing file does not matter: the secret is never
/// written to it.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    let draft = draft(path, text)?;
    let moved = fs::rename(&draft, path);
    settle(path, &draft, moved)
}

/// Creates the file unless it exists; of two concurrent calls one wins.
pub fn make(path: &Path, text: &str) -> io::Result<()> {
    let draft = draft(path, text)?;
    let linked = match fs::hard_link(&draft, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked,
    };
    let removed = fs::remove_file(&draft);
    settle(path, &draft, linked.and(removed))
}

/// Returns the content, cut at 64 KiB. If others may read the file, first restricts its mode.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let there = fs::metadata(path)?;
    if there.is_file() && there.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{:o}", there.mode() & 0o777),
            "others could read this secret; they no longer can");
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Creates a temporary file beside it, exclusively and with a random name, so that nobody else can
/// have created it.
fn draft(path: &Path, text: &str) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.{}", Uuid::new_v4().simple()));
    let written = (|| {
        let mut file: File =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        writeln!(file, "{text}")?;
        file.sync_all()
    })();
    settle(path, &draft, written)?;
    Ok(draft)
}

/// On failure removes the temporary file; on success syncs the directory.
fn settle(path: &Path, draft: &Path, done: io::Result<()>) -> io::Result<()> {
    if done.is_err() {
        let _gone = fs::remove_file(draft);
        return done;
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn names(dir: &Path) -> usize {
        fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn a_secret_never_stands_in_a_file_of_another_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let mut open_before = File::open(&path).unwrap();
        replace(&path, "secret").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("secret\n", 0o600));
        let mut seen = String::new();
        io::Read::read_to_string(&mut open_before, &mut seen).unwrap();
        assert_eq!(seen, "old", "who had it open sees no secret");
        assert_eq!(names(dir.path()), 1);
    }

    #[test]
    fn a_link_in_its_place_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (dir.path().join("token"), dir.path().join("elsewhere"));
        fs::write(&elsewhere, "untouched").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        replace(&path, "secret").unwrap();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "untouched");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
    }

    #[test]
    fn what_is_made_is_made_once_and_what_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        make(&path, "one").unwrap();
        make(&path, "two").unwrap();
        assert_eq!((&*read(&path).unwrap(), mode(&path)), (&b"one\n"[..], 0o600));
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert_eq!((&*read(&path).unwrap(), mode(&path)), (&b"one\n"[..], 0o600));
        assert_eq!(names(dir.path()), 1);
        assert!(replace(&dir.path().join("no/such"), "x").is_err());
        let folder = dir.path().join("folder");
        fs::create_dir(&folder).unwrap();
        assert!(replace(&folder, "x").is_err());
        assert_eq!(names(dir.path()), 2);
    }
}
