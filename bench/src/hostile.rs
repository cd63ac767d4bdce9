//! One tenant at every cap at once, and its effect on another one.

mod attack;
mod quiet;

pub use attack::Attack;
pub use quiet::Quiet;

use anyhow::{Context as _, Result};

/// The most memory that a process ever had, in MB.
pub fn peak_memory(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
    Ok(kilobytes.parse::<f64>()? / 1024.0)
}
