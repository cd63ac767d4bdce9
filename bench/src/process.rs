//! A child process: logs to a file, and is killed by its own id when dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::time::Instant;

/// The memory of a process, in MB.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Memory {
    /// What it has now.
    pub resident: f64,
    /// The most that it ever had.
    pub peak: f64,
}

impl Memory {
    /// Of the process with this id.
    pub fn of(pid: u32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let megabytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kilobytes = line.and_then(|line| line.split_whitespace().next());
            Ok::<_, anyhow::Error>(
                kilobytes.with_context(|| name.to_owned())?.parse::<f64>()? / 1024.0,
            )
        };
        Ok(Self { resident: megabytes("VmRSS:")?, peak: megabytes("VmHWM:")? })
    }
}

/// The CPU time that the process has used so far, its own and the kernel's.
pub fn cpu_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may have spaces.
    let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks: Vec<u64> = after.split_whitespace().skip(11).take(2).flat_map(str::parse).collect();
    ensure!(ticks.len() == 2, "unreadable: {stat}");
    // Linux counts hundredths of a second, whatever its own clock.
    Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 10))
}

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it; its output goes to `<directory>/<name>.log`, appended over restarts.
    pub fn spawn(name: &str, directory: &Path, command: &mut Command) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}: {:?}", command.get_program()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its output so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its exit code; `None` while it runs.
    pub fn exit_code(&mut self) -> Result<Option<i32>> {
        Ok(self.child.try_wait()?.map(|status| status.code().unwrap_or(-1)))
    }

    /// Kills it without a warning, like a crash.
    pub fn kill(&mut self) {
        // An error means that it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Polls `ready` until it holds; fails early, with the end of the log, when the process ends.
    pub async fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl AsyncFnMut() -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if ready().await {
                return Ok(());
            }
            if let Some(code) = self.exit_code()? {
                bail!("{} ended with {code} before {what}\n{}", self.name, self.last_words());
            }
            if Instant::now() > deadline {
                bail!("{}: not {what} after {limit:?}\n{}", self.name, self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        let last = &lines[lines.len().saturating_sub(25)..];
        format!("--- {} ---\n{}", self.name, last.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let mut out = std::io::stderr().lock();
            let _ = std::io::Write::write_all(&mut out, self.last_words().as_bytes());
            let _ = std::io::Write::write_all(&mut out, b"\n");
        }
    }
}

/// Polls until `done` returns a value; `what` names it in the error.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut done: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = done().await.with_context(|| what.to_owned())? {
            return Ok(value);
        }
        if Instant::now() > deadline {
            bail!("{what}: not within {limit:?}");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
