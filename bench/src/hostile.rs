//! One tenant at every cap at once, and what another one feels of it.

mod attack;
mod quiet;

pub use attack::Attack;
pub use quiet::Quiet;

use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::rest::Rest;

/// The most memory that a process ever had, in MB.
pub fn peak_memory(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()).context("no VmHWM")?;
    Ok(kilobytes.parse::<f64>()? / 1024.0)
}

/// Creates, and comes again as long as it is told that it asks too fast.
async fn create(rest: &Rest, path: &str, body: &Value) -> Result<(StatusCode, Value)> {
    loop {
        let (status, made) = rest.send(Method::POST, path, Some(body)).await?;
        if status != StatusCode::TOO_MANY_REQUESTS {
            return Ok((status, made));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
