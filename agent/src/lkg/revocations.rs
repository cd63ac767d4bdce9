//! `revocations.log`: revocations and removals that may not be in the file of rows yet.
//!
//! A revocation takes effect as soon as it arrives, and callers see it (401) before a transaction
//! is on disk. So it is first appended here by one write to the page cache, which outlives the
//! process: after a `kill -9` the older row is ignored. A line is the key of a row and its current
//! version, or none if it was removed. The file is emptied when the rows are on disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most bytes that are read; no customer has so many keys.
const MOST: u64 = 64 << 20;

/// The file. What cannot be written still takes effect in memory.
#[derive(Debug)]
pub(super) struct Revocations {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    /// The newest version of each row in the file.
    versions: HashMap<String, String>,
    /// The number of lines, and how many of them have their rows marked for the disk.
    written: u64,
    marked: u64,
}

impl Revocations {
    /// Opens or creates it in the state directory, with its content.
    pub(super) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join("revocations.log");
        let mut bytes = Vec::new();
        let file = open(&path).inspect_err(|error| {
            tracing::error!(path = %path.display(), %error, "revocations are on disk a moment later than they hold");
        });
        let mut file = file.ok();
        if let Some(file) = &mut file {
            // Whatever can be read of a damaged file is used: it can only revoke.
            let _whole = file.take(MOST).read_to_end(&mut bytes);
            // What follows half a line would be a part of it.
            if bytes.last().is_some_and(|last| *last != b'\n') {
                let _ended = file.write_all(b"\n");
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let lines = text.lines().filter_map(|line| line.split_once('\t'));
        let versions: HashMap<_, _> =
            lines.map(|(key, version)| (key.to_owned(), version.to_owned())).collect();
        let written = versions.len() as u64;
        let state = Mutex::new(State { file, versions, written, marked: 0 });
        Self { path, state }
    }

    /// Rows with other versions than these must be ignored.
    pub(super) fn versions(&self) -> HashMap<String, String> {
        self.state().versions.clone()
    }

    /// Records new versions of these rows (empty: removed). Those that are no revocations are
    /// written only if the file has another version of them.
    pub(super) fn say<'a>(&self, rows: impl IntoIterator<Item = (String, &'a str, bool)>) {
        let mut state = self.state();
        let mut lines = String::new();
        for (key, version, takes_away) in rows {
            if !takes_away && !state.versions.contains_key(&key) {
                continue;
            }
            // The control plane's names contain neither; unreadable lines are skipped.
            if key.contains(['\n', '\t']) || version.contains('\n') {
                continue;
            }
            lines.extend([&key, "\t", version, "\n"]);
            state.versions.insert(key, version.to_owned());
            state.written += 1;
        }
        if lines.is_empty() {
            return;
        }
        let written = state.file.as_mut().map(|file| file.write_all(lines.as_bytes()));
        if !matches!(written, Some(Ok(()))) {
            tracing::debug!(path = %self.path.display(), "a revocation is on disk a moment later than it holds");
        }
    }

    /// Records that the rows of all lines are marked for the disk.
    pub(super) fn marked(&self) {
        let mut state = self.state();
        state.marked = state.written;
    }

    /// The position in the file up to which rows are marked now.
    pub(super) fn point(&self) -> u64 {
        self.state().marked
    }

    /// Records that everything up to there is on disk. Empties the file, unless lines were added
    /// since.
    pub(super) fn kept(&self, point: u64) {
        let mut state = self.state();
        if state.versions.is_empty() || state.written != point {
            return;
        }
        if state.file.as_mut().is_some_and(|file| file.set_len(0).is_err()) {
            return;
        }
        state.versions.clear();
        if state.file.is_none() {
            state.file = open(&self.path).ok();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the file, accessible to its owner only.
fn open(path: &Path) -> std::io::Result<File> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.read(true).append(true).create(true).mode(0o600).open(path)?;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(directory: &tempfile::TempDir) -> HashMap<String, String> {
        Revocations::open(directory.path()).versions()
    }

    #[test]
    fn what_was_said_is_there_after_a_crash_until_it_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let revocations = Revocations::open(directory.path());
        revocations.say([
            ("key a".to_owned(), "", true),
            ("key b".to_owned(), "2", true),
            ("key c".to_owned(), "1", false),
        ]);
        let said = HashMap::from([("key a", ""), ("key b", "2")]);
        let said = |more: &[(&str, &str)]| -> HashMap<String, String> {
            let all = said.clone().into_iter().chain(more.iter().copied());
            all.map(|(key, version)| (key.to_owned(), version.to_owned())).collect()
        };
        assert_eq!(there(&directory), said(&[]));
        revocations.marked();
        let point = revocations.point();
        // It is restored: this version of the row counts, and no older one.
        revocations.say([("key b".to_owned(), "3", false)]);
        revocations.kept(point);
        assert_eq!(there(&directory), said(&[("key b", "3")]), "more was said since");
        revocations.marked();
        revocations.kept(revocations.point());
        assert_eq!(there(&directory), HashMap::new());
        revocations.say([("key d".to_owned(), "", true)]);
        assert_eq!(there(&directory).len(), 1, "the file goes on");
    }

    #[test]
    fn a_damaged_file_takes_away_what_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.log");
        std::fs::write(&path, b"key a\t\n\xff\xfe\nkey b").unwrap();
        assert_eq!(there(&directory), HashMap::from([("key a".to_owned(), String::new())]));
    }

    #[test]
    fn what_is_said_after_half_a_line_is_a_line_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("revocations.log");
        for torn in ["key a\t\nkey", "key a\t\nkey b\t1"] {
            std::fs::write(&path, torn).unwrap();
            Revocations::open(directory.path()).say([("key c".to_owned(), "", true)]);
            assert_eq!(there(&directory).get("key c").map(String::as_str), Some(""), "{torn}");
        }
    }
}
