//! Which hosts lead to which gateways, over a restart: while the API server is away, publishes at these hosts are
//! still known to be active.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fleet::Stands;

/// Two files in the state directory: all hosts in JSON, and behind it a journal of what has changed since, so that a host more
/// is a line more.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    hosts: BTreeMap<String, BTreeSet<Arc<str>>>,
    /// What changes are appended to. Without it all is written with the next change.
    journal: Option<File>,
    /// The changes in it.
    changes: usize,
}

/// A line of the journal: whether a host leads to a gateway, and both.
type Line = (bool, String, String);

/// A journal with so many changes more than there are hosts is begun again.
const SPARE: usize = 1_000;

impl Kept {
    /// A file that cannot be read is as good as none: the API server tells it again.
    pub(super) fn open(state_dir: &Path) -> Self {
        let path = state_dir.join("attached.json");
        let read = std::fs::read(&path);
        let hosts = read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from));
        let hosts: BTreeMap<String, BTreeSet<String>> = hosts.unwrap_or_else(|error| {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "cannot be read; it is written again");
            }
            BTreeMap::new()
        });
        let shared = |hosts: BTreeSet<String>| hosts.into_iter().map(Arc::from).collect();
        let hosts = hosts.into_iter().map(|(gateway, hosts)| (gateway, shared(hosts))).collect();
        let mut kept = Self { path, hosts, journal: None, changes: 0 };
        let journal = std::fs::read(kept.journal_path()).unwrap_or_default();
        // The last line may be half of one.
        let lines = journal.split(|byte| *byte == b'\n');
        let lines = lines.map_while(|line| serde_json::from_slice::<Line>(line).ok());
        for (leads, gateway, host) in lines {
            kept.put(&gateway, &host.into(), leads);
        }
        kept
    }

    /// All gateways that have hosts.
    pub(super) fn gateways(&self) -> impl Iterator<Item = (&String, &BTreeSet<Arc<str>>)> {
        self.hosts.iter()
    }

    pub(super) fn of(&self, gateway: &str) -> BTreeSet<Arc<str>> {
        self.hosts.get(gateway).cloned().unwrap_or_default()
    }

    /// Keeps these; what cannot be written now is written with the next change.
    pub(super) fn set(&mut self, gateway: &str, hosts: &BTreeSet<Arc<str>>) {
        let before = self.of(gateway);
        let gone = before.difference(hosts).map(|host| (host.clone(), Stands::Nowhere));
        let come = hosts.difference(&before).map(|host| (host.clone(), Stands::Leads));
        let changes: Vec<_> = gone.chain(come).collect();
        self.change(gateway, &changes);
    }

    /// The same for some hosts of a gateway.
    pub(super) fn change(&mut self, gateway: &str, hosts: &[(Arc<str>, Stands)]) {
        let mut lines = Vec::new();
        for (host, stands) in hosts {
            let leads = *stands == Stands::Leads;
            if self.put(gateway, host, leads) {
                self.changes += 1;
                lines.extend(serde_json::to_vec(&(leads, gateway, &**host)).unwrap_or_default());
                lines.push(b'\n');
            }
        }
        if lines.is_empty() {
            return;
        }
        let all = self.hosts.values().map(BTreeSet::len).sum::<usize>();
        let journal = self.journal.as_mut().filter(|_| self.changes <= all + SPARE);
        let written = match journal {
            Some(journal) => journal.write_all(&lines),
            None => self.save(),
        };
        if let Err(error) = written {
            self.journal = None;
            tracing::warn!(path = %self.path.display(), %error, "cannot be written");
        }
    }

    /// Returns whether that is new.
    fn put(&mut self, gateway: &str, host: &Arc<str>, leads: bool) -> bool {
        if leads {
            return self.hosts.entry(gateway.to_owned()).or_default().insert(host.clone());
        }
        let Some(hosts) = self.hosts.get_mut(gateway) else { return false };
        let was_there = hosts.remove(host);
        if hosts.is_empty() {
            self.hosts.remove(gateway);
        }
        was_there
    }

    fn journal_path(&self) -> PathBuf {
        self.path.with_extension("journal")
    }

    /// Writes all, and begins the journal again. After a crash in between the journal is older than the list: what it says of
    /// a host holds until the API server tells.
    fn save(&mut self) -> io::Result<()> {
        let draft = self.path.with_extension("json.new");
        let open = |path: &Path| {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600).open(path)
        };
        let texts = |hosts: &BTreeSet<Arc<str>>| -> Vec<String> {
            hosts.iter().map(|host| host.to_string()).collect()
        };
        let all = self.hosts.iter().map(|(gateway, hosts)| (gateway, texts(hosts)));
        let all: BTreeMap<&String, Vec<String>> = all.collect();
        open(&draft)?.write_all(&serde_json::to_vec(&all)?)?;
        std::fs::rename(&draft, &self.path)?;
        self.journal = Some(open(&self.journal_path())?);
        self.changes = 0;
        Ok(())
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
        std::fs::write(directory.path().join("attached.journal"), "").unwrap();
        assert_eq!(Kept::open(directory.path()).gateways().count(), 0);
    }

    #[test]
    fn a_host_more_is_a_line_more_and_half_a_line_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("attached.journal");
        let size = || std::fs::metadata(&path).unwrap().len();
        let many = (0..3_000).map(|n| Arc::from(format!("h{n}.test"))).collect();
        let mut kept = Kept::open(directory.path());
        kept.set("g", &many);
        let (host, before) = (Arc::from("new.test"), size());
        kept.change("g", &[(host, Stands::Leads)]);
        assert!((1..100).contains(&(size() - before)), "{}", size() - before);
        kept.change("g", &[("h0.test".into(), Stands::Nowhere)]);
        assert_eq!(Kept::open(directory.path()).of("g"), kept.of("g"));
        let text = std::fs::read(&path).unwrap();
        std::fs::write(&path, &text[..text.len() - 3]).unwrap();
        let again = Kept::open(directory.path()).of("g");
        assert!(again.contains("new.test") && again.contains("h0.test"), "{}", again.len());
        for n in 0..10_000 {
            let stands = if n % 2 == 0 { Stands::Nowhere } else { Stands::Leads };
            kept.change("g", &[("h1.test".into(), stands)]);
        }
        assert!(size() < 300_000, "it grows on and on: {}", size());
        assert_eq!(Kept::open(directory.path()).of("g"), kept.of("g"));
    }
}
