//! An Envoy of the benchmark's, with one door.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use imp_module::counters;

use super::service::Service;
use super::tls::Identity;
use super::{Contents, Door, listener};
use crate::ports;
use crate::process::{Memory, Process};
use crate::stack::{EnvoyAdmin, envoy_binary};

/// How long an Envoy may take to start with a million keys.
const START: Duration = Duration::from_secs(120);

/// A running one, with what it asks.
pub(super) struct Envoy {
    process: Process,
    admin: EnvoyAdmin,
    pub(super) clear: u16,
    pub(super) tls: u16,
    /// Until it was up.
    pub(super) started: Duration,
    directory: tempfile::TempDir,
    _service: Option<Service>,
}

/// What all Envoys of a run have in common.
pub(super) struct Common {
    library: PathBuf,
    /// Others in its place.
    beside: Vec<PathBuf>,
    pub(super) identity: Identity,
    pub(super) upstream: std::net::SocketAddr,
}

impl Common {
    pub(super) fn new(library: &Path, beside: &[PathBuf]) -> Result<Self> {
        crate::install_crypto();
        let found = |path: &Path| path.canonicalize().with_context(|| path.display().to_string());
        let library = found(library)?;
        let beside = beside.iter().map(|path| found(path)).collect::<Result<_>>()?;
        let (identity, upstream) = (Identity::new()?, super::upstream::start()?);
        Ok(Self { library, beside, identity, upstream })
    }

    fn library(&self, door: Door) -> Result<&Path> {
        match door {
            Door::Beside(number) => {
                let number = usize::from(number).checked_sub(1);
                let library = number.and_then(|number| self.beside.get(number));
                library.map(PathBuf::as_path).context("no such library")
            }
            _ => Ok(&self.library),
        }
    }
}

impl Envoy {
    pub(super) async fn start(
        common: &Common,
        door: Door,
        contents: &Contents,
        workers: u32,
    ) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("imp-enforce-").tempdir()?;
        let place = directory.path();
        let service = match door {
            Door::ExtAuthz => {
                Some(Service::start(contents.engine()?, place, &place.join("agent.sock"))?)
            }
            Door::Module | Door::Beside(_) => {
                contents.write(&place.join("snapshot"))?;
                None
            }
            Door::None | Door::ApiKeyAuth => None,
        };
        let (clear, tls) = (ports::free()?, ports::free()?);
        let places = listener::Places {
            library: common.library(door)?,
            directory: place,
            upstream: common.upstream,
            clear,
            tls,
        };
        let file = place.join("envoy.json");
        let bootstrap = listener::bootstrap(door, contents, &places, &common.identity);
        std::fs::write(&file, bootstrap.to_string())?;
        let mut command = Command::new(envoy_binary()?);
        command.arg("-c").arg(&file).args(["--concurrency", &workers.to_string()]);
        command.args(["--use-dynamic-base-id", "--log-level", "warning"]);
        let begun = Instant::now();
        let mut process = Process::spawn("envoy", place, &mut command)?;
        let admin = EnvoyAdmin::at(&place.join("admin.sock"))?;
        let up = async || admin.answers("ready").await;
        process.wait_until("ready", START, up).await?;
        let started = begun.elapsed();
        Ok(Self { process, admin, clear, tls, started, directory, _service: service })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn admin(&self) -> &EnvoyAdmin {
        &self.admin
    }

    /// Microseconds of CPU that its threads have used. The scheduler's numbers, in nanoseconds: those
    /// of `stat` are in steps of 10 ms.
    pub(super) fn cpu(&self) -> Result<f64> {
        let mut sum = 0.0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let stat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            let ran = stat.split_whitespace().next().context("no CPU time")?;
            sum += ran.parse::<f64>()? / 1_000.0;
        }
        Ok(sum)
    }

    pub(super) fn memory(&self) -> Result<Memory> {
        Memory::of(self.process.id())
    }

    /// All calls that its module has admitted.
    pub(super) fn counted(&self) -> Result<u64> {
        let mut sum = 0;
        for entry in std::fs::read_dir(self.path("counters"))? {
            let kept = counters::read(&entry?.path())?.kept;
            let counters =
                kept.iter().filter_map(|it| imp_enforce::Counter::kept(&it.name, it.count));
            sum += counters.map(|counter| counter.allowed).sum::<u64>();
        }
        Ok(sum)
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        self.process.last_words()
    }
}
