//! What both sides can do.

use std::ops::Range;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::watch;
use crate::kube::{Edge, folder};
use crate::process::cpu_time;

/// Writers at a time while something is loaded.
const WRITERS: usize = 8;

/// A process that has done nothing for so long rests.
const REST: Duration = Duration::from_millis(100);

/// Longer than either side works off 3,000 routes.
const RESTS: Duration = Duration::from_secs(600);

/// What is spread over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Shape {
    /// Each has a host of its own.
    Hosts,
    /// All have one host, and a path each.
    Paths,
}

impl Shape {
    /// For names of figures.
    pub fn words(self) -> &'static str {
        match self {
            Self::Hosts => "many hosts",
            Self::Paths => "one host",
        }
    }

    pub(super) fn place(self, domain: &str, index: usize) -> Place {
        match self {
            Self::Hosts => Place { host: format!("h{index}.{domain}"), path: "/".to_owned() },
            Self::Paths => Place { host: format!("one.{domain}"), path: format!("/p{index}") },
        }
    }
}

/// Where something is served.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) host: String,
    pub(super) path: String,
}

impl Place {
    /// The bytes of a call.
    pub(super) fn request(&self, key: Option<&str>) -> Vec<u8> {
        let Self { host, path } = self;
        let key = key.map(|key| format!("x-api-key: {key}\r\n")).unwrap_or_default();
        format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{key}\r\n").into_bytes()
    }
}

/// Envoy Gateway, or we.
pub(super) trait Side {
    /// The Gateway that serves both.
    fn edge(&self) -> &Edge;

    fn place(&self, index: usize) -> Place;

    /// Adds one; `x-edition` says `v1`.
    async fn add(&self, index: usize) -> Result<()>;

    /// Changes backend and header: `x-edition` says `v2`.
    async fn edit(&self, index: usize) -> Result<()>;

    async fn remove(&self, index: usize) -> Result<()>;

    /// What its processes have used.
    fn cpu(&self) -> Result<Duration>;

    /// What Envoy has got from it.
    async fn bytes(&self) -> Result<u64>;

    /// Waits until its processes rest.
    async fn rests(&self) -> Result<()> {
        let deadline = Instant::now() + RESTS;
        let mut last = self.cpu()?;
        loop {
            sleep(REST).await;
            let now = self.cpu()?;
            // The clock counts in hundredths of a second.
            if now.saturating_sub(last) <= Duration::from_millis(10) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "it works on and on");
            last = now;
        }
    }

    /// Adds all of these, several at a time, and waits until they are served.
    async fn load(&self, range: Range<usize>) -> Result<()> {
        let last = range.end.checked_sub(1).context("nothing to load")?;
        stream::iter(range)
            .map(|index| self.add(index))
            .buffer_unordered(WRITERS)
            .try_collect::<()>()
            .await?;
        let request = self.place(last).request(None);
        let seen = watch::until(self.edge().address, request, 200, RESTS).await?;
        ensure!(seen.is_some(), "{:?} is not served", self.place(last));
        self.rests().await
    }
}

/// The id of a process of the stack.
pub(super) fn pid(name: &str) -> Result<u32> {
    let text = std::fs::read_to_string(folder()?.join(format!("{name}.pid")))?;
    Ok(text.trim().parse()?)
}

/// What processes have used together.
pub(super) fn used(pids: &[u32]) -> Result<Duration> {
    pids.iter().map(|pid| cpu_time(*pid)).sum()
}

/// What Envoy has got from a cluster.
pub(super) async fn received(edge: &Edge, cluster: &str) -> Result<u64> {
    let admin = edge.pod.as_ref().context("no pod")?.admin()?;
    let name = format!("^cluster\\.{cluster}\\.upstream_cx_rx_bytes_total$");
    let found = admin.stats(&name).await?;
    found.values().next().copied().with_context(|| format!("Envoy does not count {name}"))
}
