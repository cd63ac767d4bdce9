//! Errors about files that a program reads at start: the file, what it must contain, and what was
//! found. They never include the content, which may be secret.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use thiserror::Error;

/// A file that cannot be used, described on one line.
#[derive(Debug, Error)]
#[error("{path} must hold {must_hold}, but {found}")]
pub struct FileFault {
    path: String,
    /// The expected content.
    must_hold: &'static str,
    /// What was found instead.
    found: String,
}

impl FileFault {
    /// `found` must be a clause without content: "it ends too early".
    pub fn new(path: &Path, must_hold: &'static str, found: impl ToString) -> Self {
        Self { path: path.display().to_string(), must_hold, found: found.to_string() }
    }

    /// The file cannot be read.
    pub fn unreadable(path: &Path, must_hold: &'static str, error: &io::Error) -> Self {
        Self::new(path, must_hold, why(error))
    }

    /// The content is not as expected.
    pub fn unfit(path: &Path, must_hold: &'static str, content: &[u8]) -> Self {
        Self::new(path, must_hold, found(content))
    }
}

/// Reads a file of at most this many bytes.
pub fn read(path: &Path, must_hold: &'static str, most: u64) -> Result<Vec<u8>, FileFault> {
    let unreadable = |error| FileFault::unreadable(path, must_hold, &error);
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(most + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > most {
        return Err(FileFault::new(path, must_hold, format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

/// The reason why a file cannot be read, as a clause.
pub fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "we may not read it".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => format!("it cannot be read: {error}"),
    }
}

/// The kind of content, as a clause, without any of it.
pub fn found(content: &[u8]) -> String {
    let text = std::str::from_utf8(content);
    let is_text = |text: &str| !text.chars().any(|c| c.is_control() && !c.is_ascii_whitespace());
    match text {
        Ok(text) if text.trim().is_empty() => "it is empty".to_owned(),
        Ok(text) if is_text(text) => {
            let (lines, characters) = (text.trim().lines().count(), text.trim().chars().count());
            format!("it has {characters} characters of other text ({lines} lines)")
        }
        _ => format!("it has {} bytes that are not text", content.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_which_file_what_it_must_hold_and_what_was_found_but_no_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let line = || match read(&path, "a key", 20) {
            Ok(content) => FileFault::unfit(&path, "a key", &content).to_string(),
            Err(fault) => fault.to_string(),
        };
        let named = |found: &str| format!("{} must hold a key, but {found}", path.display());
        assert_eq!(line(), named("there is no such file"));
        for (content, found) in [
            (&b" \n"[..], "it is empty"),
            (b"hunter2\nline\n", "it has 12 characters of other text (2 lines)"),
            (b"\xff\xfe\x00", "it has 3 bytes that are not text"),
            (b"hunter2\0", "it has 8 bytes that are not text"),
            (&[b'x'; 21], "it has more than 20 bytes"),
        ] {
            std::fs::write(&path, content).unwrap();
            assert_eq!(line(), named(found));
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(line(), named("it is a directory"));
    }
}
