//! What is measured: one kind of change at one size, and the storms.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::client::{Fleet, Manner};
use super::{Kind, Peers, Server, Subject};
use crate::report::Times;

/// Longer than the slowest peer takes.
const LIMIT: Duration = Duration::from_secs(120);

/// How the world changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One resource, again once all clients have it.
    One,
    /// One in a hundred at once, again once all clients have it.
    Percent,
    /// So many, one by one, as fast as the server takes them.
    Burst(usize),
    /// 100 a second, for so many seconds.
    Steady(u64),
}

/// One place of the matrix.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    /// What is served.
    pub kind: Kind,
    /// To how many.
    pub clients: usize,
    /// How much there is.
    pub resources: usize,
    /// What happens.
    pub change: Change,
    /// Every tenth client takes its time.
    pub slow: bool,
}

impl Cell {
    /// For people.
    pub fn name(&self) -> String {
        let change = match self.change {
            Change::One => "one".to_owned(),
            Change::Percent => "1 %".to_owned(),
            Change::Burst(size) => format!("burst of {size}"),
            Change::Steady(seconds) => format!("100/s for {seconds} s"),
        };
        let slow = if self.slow { ", 10 % slow" } else { "" };
        let Self { kind, clients, resources, .. } = self;
        format!("{} {clients} x {resources}, {change}{slow}", kind.word())
    }

    fn manners(&self) -> Vec<Manner> {
        let slow = |index: usize| self.slow && index % 10 == 9;
        let manner = |index| if slow(index) { Manner::Slow } else { Manner::Good };
        (0..self.clients).map(manner).collect()
    }

    /// How often, so that a peer that costs seconds per change does not cost minutes.
    fn times(&self, subject: Subject) -> usize {
        let work = self.clients * self.resources;
        match subject {
            Subject::Ours => 100,
            _ => (3_000_000 / work.max(1)).clamp(2, 100),
        }
    }
}

/// What one round of a cell took.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The server's CPU until everyone holds everything, in milliseconds.
    pub sync_cpu: f64,
    /// The same, on the clock.
    pub sync_time: f64,
    /// The server's CPU-seconds per 1,000 changed resources.
    pub cpu: f64,
    /// From a change until the last good client has it.
    pub delays: Times,
    /// To all clients, per changed resource.
    pub bytes: f64,
    /// The server's resident memory per client after everyone got everything, in KiB: mostly buffers
    /// that the allocator keeps.
    pub memory: f64,
    /// Resources that are not what they should be in the end.
    pub lost: u64,
    /// Resources that came though the client had them.
    pub duplicates: u64,
}

/// One round.
pub async fn run(peers: &Peers, subject: Subject, cell: &Cell) -> Result<Outcome> {
    let mut server = Server::start(peers, subject, cell.kind, cell.resources).await?;
    let (empty, idle) = (server.memory()?, server.cpu()?);
    let started = Instant::now();
    let mut fleet =
        Fleet::connect(server.port, cell.kind, &cell.manners(), cell.resources, None).await?;
    fleet.synced(LIMIT).await?;
    let sync_time = started.elapsed().as_secs_f64() * 1e3;
    // Acknowledgements and what follows from them belong to the synchronisation.
    settle(&server).await?;
    let synced = server.cpu()?;
    let memory = server.memory()?.saturating_sub(empty) as f64 / 1024.0 / cell.clients as f64;
    let sync_cpu = synced.saturating_sub(idle).as_secs_f64() * 1e3;
    let bytes = fleet.counts.bytes.load(Ordering::Relaxed);
    let duplicates = fleet.counts.duplicates.load(Ordering::Relaxed);
    fleet.measure();
    let generation = change(&mut server, &mut fleet, cell, subject).await?;
    settle(&server).await?;
    let changed = generation.max(1) as f64;
    Ok(Outcome {
        sync_cpu,
        sync_time,
        cpu: server.cpu()?.saturating_sub(synced).as_secs_f64() / changed * 1e3,
        delays: Times(fleet.delays()),
        bytes: (fleet.counts.bytes.load(Ordering::Relaxed) - bytes) as f64 / changed,
        memory,
        lost: fleet.lost(generation),
        duplicates: fleet.counts.duplicates.load(Ordering::Relaxed) - duplicates,
    })
}

async fn change(
    server: &mut Server,
    fleet: &mut Fleet,
    cell: &Cell,
    subject: Subject,
) -> Result<u64> {
    let together = match cell.change {
        Change::One => 1,
        Change::Percent => (cell.resources / 100).max(1),
        Change::Burst(size) => {
            let generation = server.change(1, size, Duration::ZERO).await?;
            fleet.reached(generation, LIMIT).await?;
            return Ok(generation);
        }
        Change::Steady(seconds) => {
            let pause = Duration::from_millis(10);
            let times = usize::try_from(seconds * 100)?;
            let generation = server.change(1, times, pause).await?;
            fleet.reached(generation, LIMIT).await?;
            return Ok(generation);
        }
    };
    let mut generation = 0;
    for _ in 0..cell.times(subject) {
        generation = server.change(together, 1, Duration::ZERO).await?;
        fleet.reached(generation, LIMIT).await?;
    }
    Ok(generation)
}

/// Until the server computes nothing any more.
async fn settle(server: &Server) -> Result<()> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let before = server.cpu()?;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let spent = server.cpu()?.saturating_sub(before);
        if spent < Duration::from_millis(2) || Instant::now() > deadline {
            return Ok(());
        }
    }
}

/// Everyone at once, everyone again with what they had, and one who refuses everything.
#[derive(Clone, Debug, Default)]
pub struct Storms {
    /// Bytes until everyone holds everything.
    pub full_bytes: f64,
    /// The same, on the clock, in milliseconds.
    pub full_time: f64,
    /// Bytes until everyone is known to be in sync again.
    pub again_bytes: f64,
    /// The server's CPU for that, in milliseconds.
    pub again_cpu: f64,
    /// Responses to a client that refuses, without its having asked for anything else.
    pub refused_responses: f64,
}

/// The storms, with that many clients and clusters.
pub async fn storms(
    peers: &Peers,
    subject: Subject,
    clients: usize,
    resources: usize,
) -> Result<Storms> {
    let server = Server::start(peers, subject, Kind::Cds, resources).await?;
    let good = vec![Manner::Good; clients];
    let started = Instant::now();
    let mut fleet = Fleet::connect(server.port, Kind::Cds, &good, resources, None).await?;
    fleet.synced(LIMIT).await?;
    let full_time = started.elapsed().as_secs_f64() * 1e3;
    let full_bytes = fleet.counts.bytes.load(Ordering::Relaxed) as f64;
    let held = fleet.holding()?;
    drop(fleet);
    settle(&server).await?;
    let before = server.cpu()?;
    let mut again = Fleet::connect(server.port, Kind::Cds, &good, resources, Some(&held)).await?;
    // An empty answer is one: without it, nobody would know that everyone is in sync.
    again.answered(LIMIT).await?;
    settle(&server).await?;
    again.still_connected()?;
    let again_cpu = server.cpu()?.saturating_sub(before).as_secs_f64() * 1e3;
    let again_bytes = again.counts.bytes.load(Ordering::Relaxed) as f64;
    drop(again);
    let refused_responses = refused(peers, subject).await?;
    Ok(Storms { full_bytes, full_time, again_bytes, again_cpu, refused_responses })
}

/// The server's resident memory per client, in KiB, while clients are connected that held everything
/// before they came: what a connection costs, without what its synchronisation took.
pub async fn memory(
    peers: &Peers,
    subject: Subject,
    clients: usize,
    resources: usize,
) -> Result<f64> {
    let server = Server::start(peers, subject, Kind::Cds, resources).await?;
    let one = [Manner::Good];
    let mut first = Fleet::connect(server.port, Kind::Cds, &one, resources, None).await?;
    first.synced(LIMIT).await?;
    let held = first.holding()?;
    drop((first, server));
    let server = Server::start(peers, subject, Kind::Cds, resources).await?;
    let before = server.memory()?;
    let good = vec![Manner::Good; clients];
    let mut fleet = Fleet::connect(server.port, Kind::Cds, &good, resources, Some(&held)).await?;
    fleet.answered(LIMIT).await?;
    settle(&server).await?;
    fleet.still_connected()?;
    let memory = server.memory()?.saturating_sub(before) as f64 / 1024.0 / clients as f64;
    drop(fleet);
    Ok(memory)
}

/// Responses to a client that refuses a world of one resource, beyond the first.
async fn refused(peers: &Peers, subject: Subject) -> Result<f64> {
    let server = Server::start(peers, subject, Kind::Cds, 1).await?;
    let refusing = [Manner::Refusing];
    let mut fleet = Fleet::connect(server.port, Kind::Cds, &refusing, 1, None).await?;
    // What was never sent cannot be refused, nor sent again.
    fleet.answered(LIMIT).await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    settle(&server).await?;
    fleet.still_connected()?;
    Ok(fleet.counts.responses.load(Ordering::Relaxed).saturating_sub(1) as f64)
}
