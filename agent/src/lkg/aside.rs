//! Keeps a few damaged files for investigation.

use std::path::{Path, PathBuf};

use imp_process::clock;

/// The most that are kept of one name: a disk that damages everything must not be filled by them.
const KEPT: usize = 3;

/// Renames the file to `NAME.damaged-TIME` and returns that name.
pub(crate) fn move_aside(path: &Path) -> std::io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let start = format!("{name}.damaged-");
    let target =
        path.with_file_name(format!("{start}{}", clock::now().format("%Y%m%dT%H%M%S%.6fZ")));
    std::fs::rename(path, &target)?;
    if let Some(directory) = path.parent() {
        forget_old(directory, &start);
    }
    Ok(target)
}

fn forget_old(directory: &Path, start: &str) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    let named = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
    };
    let mut kept: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(named).collect();
    // Names sort by time.
    kept.sort();
    for old in kept.iter().rev().skip(KEPT) {
        let gone =
            if old.is_dir() { std::fs::remove_dir_all(old) } else { std::fs::remove_file(old) };
        if let Err(error) = gone {
            tracing::warn!(path = %old.display(), %error, "an old damaged file cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_three_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lkg.redb");
        let mut moved = Vec::new();
        for content in 0..5 {
            std::fs::write(&path, content.to_string()).unwrap();
            moved.push(move_aside(&path).unwrap());
        }
        assert!(!path.exists());
        let there: Vec<_> = moved.iter().map(|path| path.exists()).collect();
        assert_eq!(there, [false, false, true, true, true]);
    }
}
