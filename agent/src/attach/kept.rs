//! Which hosts lead to which gateways, over a restart: while the API server is away, publishes at these hosts are
//! still known to be active.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One file in the state directory, JSON.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    hosts: BTreeMap<String, BTreeSet<String>>,
}

impl Kept {
    /// A file that cannot be read is as good as none: the API server tells it again.
    pub(super) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join("attached.json");
        let read = std::fs::read(&path);
        let hosts = read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from));
        let hosts = hosts.unwrap_or_else(|error| {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "cannot be read; it is written again");
            }
            BTreeMap::new()
        });
        Self { path, hosts }
    }

    /// All gateways that have hosts.
    pub(super) fn gateways(&self) -> impl Iterator<Item = (&String, BTreeSet<Arc<str>>)> {
        self.hosts.keys().map(|gateway| (gateway, self.of(gateway)))
    }

    pub(super) fn of(&self, gateway: &str) -> BTreeSet<Arc<str>> {
        let hosts = self.hosts.get(gateway).into_iter().flatten();
        hosts.map(|host| Arc::from(host.as_str())).collect()
    }

    /// Keeps these; what cannot be written now is written with the next change.
    pub(super) fn set(&mut self, gateway: &str, hosts: &BTreeSet<Arc<str>>) {
        let hosts: BTreeSet<String> = hosts.iter().map(|host| host.to_string()).collect();
        if self.hosts.get(gateway).map_or(hosts.is_empty(), |known| *known == hosts) {
            return;
        }
        if hosts.is_empty() {
            self.hosts.remove(gateway);
        } else {
            self.hosts.insert(gateway.to_owned(), hosts);
        }
        if let Err(error) = self.save() {
            tracing::warn!(path = %self.path.display(), %error, "cannot be written");
        }
    }

    fn save(&self) -> io::Result<()> {
        let draft = self.path.with_extension("json.new");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&serde_json::to_vec(&self.hosts)?)?;
        std::fs::rename(&draft, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_kept_and_a_damaged_file_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let hosts = BTreeSet::from([Arc::from("a.test")]);
        let mut kept = Kept::open(directory.path());
        kept.set("g", &hosts);
        kept.set("h", &hosts);
        kept.set("h", &BTreeSet::new());
        let again = Kept::open(directory.path());
        assert_eq!((again.of("g"), again.gateways().count()), (hosts, 1));
        std::fs::write(directory.path().join("attached.json"), "{").unwrap();
        assert_eq!(Kept::open(directory.path()).gateways().count(), 0);
    }
}
