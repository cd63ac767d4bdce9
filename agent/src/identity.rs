//! The agent's identity, as registration issued it, in a file that only its owner can read.

use std::fmt;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use imp_grammar::proof::{PrivateKey, SEED_BYTES};
use imp_process::file::{self, FileFault};
use imp_process::random::random;
use serde::{Deserialize, Serialize};

use crate::lkg::aside;

/// A registered agent.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub agent_id: String,
    /// The cluster that it serves.
    pub cluster_id: String,
    /// Authenticates the agent, together with the key, until it expires.
    pub jwt: String,
    /// The seed of the key that the JWT is bound to. It never leaves this machine.
    pub key: Seed,
    /// When the JWT was received, Unix milliseconds.
    pub issued_at_ms: i64,
    /// When the JWT expires, Unix milliseconds.
    pub expires_at_ms: i64,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("agent_id", &self.agent_id)
            .field("cluster_id", &self.cluster_id)
            .field("expires_at_ms", &self.expires_at_ms)
            .finish_non_exhaustive()
    }
}

/// The seed of a private key.
#[derive(Clone, PartialEq, Eq)]
pub struct Seed([u8; SEED_BYTES]);

impl Seed {
    /// A random seed for a new key.
    pub fn random() -> Self {
        Self(random())
    }

    /// The key. Every seed makes a valid one, so this is never `None` in practice.
    pub fn key(&self) -> Option<PrivateKey> {
        PrivateKey::from_seed(&self.0)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed")
    }
}

impl Serialize for Seed {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut seed = [0; SEED_BYTES];
        let decoded = hex::decode_to_slice(text, &mut seed);
        decoded.map_err(|_| serde::de::Error::custom("not 64 hexadecimal digits"))?;
        Ok(Self(seed))
    }
}

impl Identity {
    /// When to request a new JWT: when a third of its lifetime is left.
    pub fn renew_at_ms(&self) -> i64 {
        let life = self.expires_at_ms.saturating_sub(self.issued_at_ms).max(0);
        self.expires_at_ms.saturating_sub(life / 3)
    }

    /// Whether the JWT can still be valid.
    pub fn is_valid_at(&self, now_ms: i64) -> bool {
        now_ms < self.expires_at_ms
    }
}

/// What the file must contain, for error messages.
const IDENTITY: &str = "the identity that this agent got when it registered (JSON)";

/// The largest identity file.
const MOST: u64 = 64 * 1024;

/// The file of an identity.
#[derive(Clone, Debug)]
pub struct IdentityFile {
    path: PathBuf,
}

impl IdentityFile {
    /// The file in the state directory.
    pub fn within(state_dir: &Path) -> Self {
        Self { path: state_dir.join("identity.json") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Loads the identity; `None` if the agent is not registered yet.
    pub fn load(&self) -> Result<Option<Identity>, FileFault> {
        let unreadable =
            |error: &std::io::Error| FileFault::unreadable(&self.path, IDENTITY, error);
        let file = match std::fs::File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreadable(&error)),
        };
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
        let found = |error| FileFault::new(&self.path, IDENTITY, without_content(&error, &bytes));
        serde_json::from_slice(&bytes).map(Some).map_err(found)
    }

    /// Renames the file to make room for another identity; the old one is kept for the operator.
    pub fn move_aside(&self) -> std::io::Result<PathBuf> {
        aside::move_aside(&self.path)
    }

    /// Replaces the file atomically: a crash leaves the old one or the new one.
    pub fn save(&self, identity: &Identity) -> std::io::Result<()> {
        let draft = self.path.with_extension("json.new");
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        // A temporary file from an earlier crash may have another mode.
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        file.write_all(&serde_json::to_vec_pretty(identity)?)?;
        file.sync_all()?;
        std::fs::rename(&draft, &self.path)?;
        match self.path.parent() {
            Some(directory) => std::fs::File::open(directory)?.sync_all(),
            None => Ok(()),
        }
    }
}

/// Where the file is invalid, and how. The parser's message quotes the content, which may be
/// secret.
fn without_content(error: &serde_json::Error, bytes: &[u8]) -> String {
    use serde_json::error::Category;
    let what = match error.classify() {
        Category::Data => "it has a field that is missing or not as it should be",
        Category::Eof if !bytes.is_empty() => "it ends too early",
        Category::Syntax | Category::Eof | Category::Io => return file::found(bytes),
    };
    let (line, column) = (error.line(), error.column());
    format!("{what} (line {line} column {column})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_the_file_is_said_without_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let file = IdentityFile::within(directory.path());
        for damaged in [
            r#""a-secret""#,
            r#"{"issued_at_ms":"a-secret"}"#,
            r#"{"a-secret":1}"#,
            r#"{"key":"a-secret"}"#,
            r#"{"jwt":["a-secret"]}"#,
            r#"{"jwt":"a-secret"#,
        ] {
            std::fs::write(file.path(), damaged).unwrap();
            let words = file.load().unwrap_err().to_string();
            assert!(!words.contains("secret") && words.contains("but it "), "{words}");
        }
    }

    #[test]
    fn no_byte_of_the_file_is_more_than_an_error() {
        use rand::rngs::StdRng;
        use rand::{Rng as _, SeedableRng as _};
        let directory = tempfile::tempdir().unwrap();
        let file = IdentityFile::within(directory.path());
        let text =
            br#"{"agent_id":"a","cluster_id":"c","jwt":"j","key":"0000000000000000000000000000000000000000000000000000000000000000","issued_at_ms":1,"expires_at_ms":2}"#;
        std::fs::write(file.path(), text).unwrap();
        assert!(file.load().unwrap().is_some());
        for seed in 0..1_000 {
            let mut random = StdRng::seed_from_u64(seed);
            let mut damaged = text.to_vec();
            for _ in 0..random.random_range(1..4) {
                let at = random.random_range(0..damaged.len());
                damaged[at] = random.random();
            }
            damaged.truncate(random.random_range(0..=damaged.len()));
            std::fs::write(file.path(), damaged).unwrap();
            let _either = file.load();
        }
        std::fs::write(file.path(), "[".repeat(1_000_000)).unwrap();
        assert!(file.load().is_err());
        let kept = file.move_aside().unwrap();
        assert!(kept.exists() && file.load().unwrap().is_none());
    }

    #[test]
    fn it_survives_and_nobody_else_reads_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = IdentityFile::within(directory.path());
        assert_eq!(file.load().unwrap(), None);
        let identity = Identity {
            agent_id: "a".into(),
            cluster_id: "c".into(),
            jwt: "secret".into(),
            key: Seed([0xab; SEED_BYTES]),
            issued_at_ms: 1_000,
            expires_at_ms: 4_000,
        };
        file.save(&identity).unwrap();
        assert_eq!(file.load().unwrap(), Some(identity.clone()));
        let mode = std::fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(identity.renew_at_ms(), 3_000);
        let shown = format!("{identity:?} {:?}", identity.key);
        assert!(!shown.contains("secret") && !shown.contains("ab"), "{shown}");
    }
}
