//! The results of a benchmark: printed, and written to `target/bench/NAME.json` for programs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// One figure. `ratio` compares with `peer`, measured in the same run; `target` is about the ratio
/// if there is a peer, otherwise about the value.
#[derive(Clone, Debug, Serialize)]
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    /// The figure that it is compared with.
    pub peer: Option<String>,
    /// This value divided by the peer's, or the reverse (the name says which).
    pub ratio: Option<f64>,
    /// For example "<= 2.5".
    pub target: Option<String>,
    /// Whether the target was reached.
    pub held: Option<bool>,
}

impl Figure {
    /// A figure without a peer.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let (peer, ratio, target, held) = (None, None, None, None);
        Self { name: name.into(), value, unit, peer, ratio, target, held }
    }

    /// Adds a peer.
    pub fn beside(mut self, peer: &str, ratio: f64) -> Self {
        (self.peer, self.ratio) = (Some(peer.to_owned()), Some(ratio));
        self
    }

    /// Sets the target: the ratio (or the value, without a peer) must be at most this.
    pub fn at_most(mut self, limit: f64) -> Self {
        self.held = Some(self.ratio.unwrap_or(self.value) <= limit);
        self.target = Some(format!("<= {limit}"));
        self
    }

    /// Sets the target: the ratio (or the value, without a peer) must be at least this.
    pub fn at_least(mut self, limit: f64) -> Self {
        self.held = Some(self.ratio.unwrap_or(self.value) >= limit);
        self.target = Some(format!(">= {limit}"));
        self
    }
}

/// The machine of a run.
#[derive(Debug, Serialize)]
pub struct Machine {
    cpu: String,
    cores: usize,
    memory_mb: u64,
    kernel: String,
    load_average: String,
    envoy: String,
}

impl Machine {
    /// The current machine.
    pub fn here(envoy: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split(':').nth(1).unwrap_or_default().trim().to_owned()
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mb: memory.split(' ').next().and_then(|kb| kb.parse().ok()).unwrap_or(0u64)
                / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: read("/proc/loadavg").trim().to_owned(),
            envoy: said_by(Command::new(envoy).arg("--version")),
        }
    }
}

/// The trimmed output of a command; empty if it cannot be run.
fn said_by(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output);
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// The results of a benchmark.
#[derive(Debug, Serialize)]
pub struct Report {
    machine: Machine,
    commit: String,
    figures: Vec<Figure>,
}

impl Report {
    /// A report of this machine and this commit.
    pub fn new(machine: Machine, figures: Vec<Figure>) -> Self {
        let commit =
            said_by(Command::new("git").args(["describe", "--always", "--dirty", "--abbrev=40"]));
        Self { machine, commit, figures }
    }

    /// Formats the figures as a table.
    pub fn table(&self) -> String {
        let mut out = String::new();
        for figure in &self.figures {
            let peer = match (&figure.peer, figure.ratio) {
                (Some(peer), Some(ratio)) => format!("{ratio:8.2} x {peer}"),
                _ => String::new(),
            };
            let target = match (&figure.target, figure.held) {
                (Some(target), Some(true)) => format!("  target {target}: held"),
                (Some(target), _) => format!("  target {target}: MISSED"),
                _ => String::new(),
            };
            let Figure { name, value, unit, .. } = figure;
            let _ = writeln!(out, "{name:<48} {value:>12.3} {unit:<6} {peer}{target}");
        }
        out
    }

    /// Writes it to the directory of all benchmarks.
    pub fn write(&self, name: &str) -> Result<PathBuf> {
        write_json(&format!("{name}.json"), self)
    }
}

/// Writes raw samples beside the report.
pub fn write_samples(name: &str, samples: &impl Serialize) -> Result<PathBuf> {
    write_json(&format!("{name}.samples.json"), samples)
}

fn write_json(name: &str, content: &impl Serialize) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("no workspace")?;
    let folder = root.join("target/bench");
    std::fs::create_dir_all(&folder)?;
    let file = folder.join(name);
    std::fs::write(&file, serde_json::to_string_pretty(content)?)?;
    Ok(file)
}

/// Times of many runs, in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Times(pub Vec<f64>);

impl Times {
    /// The value that this `share` (0 to 1) of the runs is below.
    pub fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let index = (share * last as f64).round() as usize;
        sorted.get(index).copied().unwrap_or(f64::NAN)
    }

    /// The average.
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len().max(1) as f64
    }

    /// The runs in this part of the sequence, as far as they exist.
    pub fn part(&self, range: std::ops::Range<usize>) -> Self {
        let end = range.end.min(self.0.len());
        Self(self.0.get(range.start..end).unwrap_or_default().to_vec())
    }

    /// The median of the last tenth divided by the median of the first.
    pub fn growth(&self) -> f64 {
        let tenth = (self.0.len() / 10).max(1);
        let first = self.part(0..tenth.min(self.0.len()));
        let last = self.part(self.0.len().saturating_sub(tenth)..self.0.len());
        last.percentile(0.5) / first.percentile(0.5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_runs() {
        let times = Times((1..=101).rev().map(f64::from).collect());
        assert_eq!(
            (times.percentile(0.5), times.percentile(0.99), times.percentile(1.0)),
            (51.0, 100.0, 101.0)
        );
        assert_eq!(times.mean(), 51.0);
    }

    #[test]
    fn growth_compares_the_ends() {
        let times = Times((0..100).map(|i| if i < 50 { 1.0 } else { 3.0 }).collect());
        assert_eq!(times.growth(), 3.0);
    }

    #[test]
    fn a_missed_target_says_so() {
        let figure = Figure::new("a", 3.0, "ms").beside("floor", 3.0).at_most(2.5);
        assert_eq!(figure.held, Some(false));
        assert_eq!(Figure::new("b", 3.0, "x").at_least(3.0).held, Some(true));
    }
}
