//! The servers, as processes.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::Kind;
use crate::stack::program;

/// The longest time of any step of a round.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// The subjects of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// imp-xds.
    Ours,
    /// A bare gRPC service that only sends: the cost of our libraries without imp-xds.
    Floor,
    /// go-control-plane's SnapshotCache: a new snapshot on each change.
    Snapshot,
    /// go-control-plane's LinearCache: one resource on each change.
    Linear,
}

impl Subject {
    /// The name to print.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Floor => "bare gRPC",
            Self::Snapshot => "SnapshotCache",
            Self::Linear => "LinearCache",
        }
    }
}

/// The peers' program, if Go is available to build it.
#[derive(Debug)]
pub struct Peers {
    /// The program and its fixed arguments.
    words: Vec<String>,
}

impl Peers {
    /// Without peers.
    pub fn absent() -> Self {
        Self { words: Vec::new() }
    }

    /// Uses this program with these arguments, followed by the cache, the kind and the number.
    pub fn running(words: &[&str]) -> Self {
        Self { words: words.iter().map(|&word| word.to_owned()).collect() }
    }

    /// Builds them; `Err` says why that failed.
    pub async fn build() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = root.parent().context("no workspace")?.join("target/bench/go-control-plane");
        let built = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(".")
            .current_dir(root.join("peers/go-control-plane"))
            .output()
            .await
            .context("Go is missing")?;
        let errors = String::from_utf8_lossy(&built.stderr);
        ensure!(built.status.success(), "go build: {}", errors.trim());
        Ok(Self::running(&[program.to_str().context("not a path")?]))
    }

    /// The subjects that can be measured.
    pub fn subjects(&self) -> Vec<Subject> {
        match self.words.is_empty() {
            false => vec![Subject::Ours, Subject::Floor, Subject::Snapshot, Subject::Linear],
            true => vec![Subject::Ours, Subject::Floor],
        }
    }

    fn command(&self, subject: Subject) -> Result<Command> {
        let cache = match subject {
            Subject::Ours => return Ok(Command::new(program("xds_server")?)),
            Subject::Floor => return Ok(Command::new(program("xds_floor")?)),
            Subject::Snapshot => "snapshot",
            Subject::Linear => "linear",
        };
        let (program, words) = self.words.split_first().context("no peers")?;
        let mut command = Command::new(program);
        command.args(words).arg(cache);
        Ok(command)
    }
}

/// A running server, killed when dropped.
pub struct Server {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    pub port: u16,
}

impl Server {
    /// Starts with this many resources.
    pub async fn start(
        peers: &Peers,
        subject: Subject,
        kind: Kind,
        resources: usize,
    ) -> Result<Self> {
        let mut child = peers
            .command(subject)?
            .args([kind.word(), &resources.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", subject.name()))?;
        let stdin = child.stdin.take().context("no standard input")?;
        let lines = BufReader::new(child.stdout.take().context("no standard output")?).lines();
        let mut server = Self { child, stdin, lines, port: 0 };
        server.port = server.answer("ready").await?;
        Ok(server)
    }

    /// Makes `times` changes of `together` resources each, `pause` apart. Returns the resulting
    /// generation.
    pub async fn change(&mut self, together: usize, times: usize, pause: Duration) -> Result<u64> {
        let line = format!("change {together} {times} {}\n", pause.as_micros());
        self.stdin.write_all(line.as_bytes()).await?;
        self.answer("done").await
    }

    async fn answer<T: std::str::FromStr>(&mut self, word: &str) -> Result<T> {
        let line = self.lines.next_line().await?.context("the server has ended")?;
        let value = line.strip_prefix(word).and_then(|rest| rest.trim().parse().ok());
        value.with_context(|| format!("not understood: {line}"))
    }

    /// The CPU time of its threads so far, in nanoseconds rather than ticks.
    pub fn cpu(&self) -> Result<Duration> {
        let pid = self.child.id().context("the server has ended")?;
        let mut nanos = 0;
        for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end meanwhile.
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanos += text.split(' ').next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// Waits until it uses no CPU any more.
    pub async fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let before = self.cpu()?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let spent = self.cpu()?.saturating_sub(before);
            if spent < Duration::from_millis(2) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the server still computes after {LIMIT:?}");
        }
    }

    /// Its resident memory, in bytes.
    pub fn memory(&self) -> Result<u64> {
        let pid = self.child.id().context("the server has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.context("no VmRSS")? * 1024)
    }
}
