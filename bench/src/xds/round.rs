//! One round of a cell: all clients get everything, then the resource set changes.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::client::SLOW;
use super::fleet::Fleet;
use super::server::LIMIT;
use super::{Cell, Change, Peers, Reading, Readings, Server, Subject};
use crate::report::Times;

/// The time for slow clients after the last change.
const CATCH_UP: Duration = Duration::from_secs(20);

/// The result of one round of a cell.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The server's CPU-seconds per 1,000 changed resources.
    pub cpu: f64,
    /// The server's CPU until everyone has everything, in milliseconds.
    pub sync_cpu: f64,
    /// The time of the same in milliseconds.
    pub sync_time: f64,
    /// Bytes read by all clients, per changed resource.
    pub bytes: f64,
    /// Bytes read by all clients until everyone had everything.
    pub sync_bytes: f64,
    /// The server's resident memory per client after everyone got everything, in KiB: mostly buffers
    /// that the allocator keeps.
    pub memory: f64,
    /// Delays from a change until the last good client had it.
    pub delays: Times,
    /// Wrong resources at the end, including slow clients.
    pub lost: u64,
    /// Resources that clients received although they had them, from the first response on.
    pub duplicates: u64,
}

/// Runs one round.
pub async fn run(peers: &Peers, subject: Subject, cell: &Cell) -> Result<Outcome> {
    let mut server = Server::start(peers, subject, cell.kind, cell.resources).await?;
    let (empty, idle) = (server.memory()?, server.cpu()?);
    let started = Instant::now();
    let mut fleet = Fleet::connect(server.port, cell.kind, &cell.manners(), cell.resources, None);
    fleet.synced(LIMIT).await?;
    let sync_time = started.elapsed().as_secs_f64() * 1e3;
    // Acknowledgements and their consequences belong to the synchronisation.
    server.settle().await?;
    let synced = server.cpu()?;
    let memory = server.memory()?.saturating_sub(empty) as f64 / 1024.0 / cell.clients as f64;
    let sync_bytes = fleet.bytes();
    fleet.measure();
    let generation = change(&mut server, &mut fleet, cell, subject).await?;
    server.settle().await?;
    let changed = generation.max(1) as f64;
    let cpu = server.cpu()?.saturating_sub(synced).as_secs_f64() / changed * 1e3;
    let bytes = (fleet.bytes() - sync_bytes) as f64 / changed;
    let lost = fleet.lost(generation, CATCH_UP).await?;
    if cell.slow {
        // A duplicate for a slow client would arrive late.
        fleet.at_rest(SLOW * 2, LIMIT).await?;
    }
    Ok(Outcome {
        cpu,
        sync_cpu: synced.saturating_sub(idle).as_secs_f64() * 1e3,
        sync_time,
        bytes,
        sync_bytes: sync_bytes as f64,
        memory,
        delays: Times(fleet.delays()),
        lost,
        duplicates: fleet.duplicates(),
    })
}

async fn change(
    server: &mut Server,
    fleet: &mut Fleet,
    cell: &Cell,
    subject: Subject,
) -> Result<u64> {
    let (together, times) = match cell.change {
        Change::One => (1, cell.times(subject)),
        Change::Percent => ((cell.resources / 100).max(1), cell.times(subject)),
        Change::Burst(size) => return all_at_once(server, fleet, size, Duration::ZERO).await,
        Change::Steady(seconds) => {
            let times = usize::try_from(seconds * 100)?;
            return all_at_once(server, fleet, times, Duration::from_millis(10)).await;
        }
    };
    let mut generation = 0;
    for _ in 0..times {
        generation = server.change(together, 1, Duration::ZERO).await?;
        fleet.reached(generation, LIMIT).await?;
    }
    Ok(generation)
}

/// Makes the changes without waiting for clients in between.
async fn all_at_once(
    server: &mut Server,
    fleet: &mut Fleet,
    times: usize,
    pause: Duration,
) -> Result<u64> {
    let generation = server.change(1, times, pause).await?;
    fleet.reached(generation, LIMIT).await?;
    Ok(generation)
}

impl From<Outcome> for Readings {
    fn from(o: Outcome) -> Self {
        let values = vec![
            Reading::of("CPU per 1,000 changes", o.cpu, "CPU-s"),
            Reading::of("sync of all, CPU", o.sync_cpu, "ms"),
            Reading::of("sync of all, time", o.sync_time, "ms"),
            Reading::of("sync of all, bytes", o.sync_bytes, "B"),
            Reading::of("bytes per change", o.bytes, "B"),
            Reading::of("memory per client after the sync", o.memory, "KiB"),
            Reading::fault("lost updates", o.lost),
            Reading::fault("sent twice", o.duplicates),
        ];
        Self { values, delays: o.delays }
    }
}
