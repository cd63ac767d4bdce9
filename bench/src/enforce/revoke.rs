//! From the agent's write of a revocation until every worker refuses the key.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use imp_module::feed::message::Named;
use tokio::task::spawn_blocking;

use super::contents::{HOST, credential_id, key};
use super::envoy::{Common, Envoy};
use super::feed::Feed;
use super::{Contents, Door, listener};
use crate::ports;
use crate::publish::{Poll, Probes};
use crate::report::Times;

/// The workers of that Envoy.
const WORKERS: u32 = 2;

/// Between two polls of a worker: less than what is measured, and not so often that the probes take
/// the cores.
const PERIOD: Duration = Duration::from_micros(50);

/// Between two revocations.
const PAUSE: Duration = Duration::from_millis(5);

/// Milliseconds of each revocation.
#[derive(Debug, Default, serde::Serialize)]
pub struct Revoked {
    /// Until the last worker answered 401.
    pub refused: Times,
    /// Until the module said that it decides by it.
    pub applied: Times,
}

/// Revokes so many keys, one after another.
pub async fn revoke(library: &Path, contents: &Contents, times: usize) -> Result<Revoked> {
    let common = Common::new(library, &[])?;
    let envoy = Envoy::start(&common, Door::Module, contents, WORKERS).await?;
    let socket = envoy.path("feed.sock");
    let mut feed = spawn_blocking(move || Feed::accept(&socket)).await??;
    let probes = Probes::open(envoy.admin(), ports::local(envoy.clear), WORKERS).await?;
    let mut revoked = Revoked::default();
    for turn in 0..times {
        let number = turn * (contents.keys / times.max(1)).max(1);
        let watch = probes.poll(&Poll {
            request: request(number),
            before: 200,
            after: 401,
            period: PERIOD,
        });
        tokio::time::sleep(PAUSE).await;
        let written = Instant::now();
        feed.tell(vec![], vec![Named::Credential(credential_id(number))])?;
        feed.applied()?;
        revoked.applied.0.push(milliseconds(written.elapsed()));
        revoked.refused.0.push(milliseconds(watch.served().await?.duration_since(written)));
    }
    Ok(revoked)
}

fn request(number: usize) -> Vec<u8> {
    let (path, key) = (listener::DIRECT, key(number));
    format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\nx-imp-host: {HOST}\r\nx-api-key: {key}\r\n\r\n")
        .into_bytes()
}

pub(super) fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
