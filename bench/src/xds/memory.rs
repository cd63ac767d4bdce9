//! The memory that a connected client costs the server.

use anyhow::Result;

use super::client::Manner;
use super::fleet::Fleet;
use super::server::LIMIT;
use super::{Crowd, Kind, Peers, Reading, Readings, Server, Subject};

/// The memory of connected clients in sync.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The server's resident memory per client that got everything from it, in KiB.
    pub filled: f64,
    /// The same per client that had everything before it connected.
    pub returned: f64,
    /// Wrong resources.
    pub lost: u64,
    /// Resources that clients received although they had them.
    pub duplicates: u64,
}

/// Runs a crowd of this size.
pub async fn memory(peers: &Peers, subject: Subject, crowd: Crowd) -> Result<Memory> {
    let good = vec![Manner::Good; crowd.clients];
    let server = Server::start(peers, subject, Kind::Cds, crowd.resources).await?;
    let before = server.memory()?;
    let mut fleet = Fleet::connect(server.port, Kind::Cds, &good, crowd.resources, None);
    fleet.synced(LIMIT).await?;
    let filled = per_client(&server, &mut fleet, before, crowd).await?;
    let held = fleet.holding()?;
    let (lost, duplicates) = (fleet.lost(0, LIMIT).await?, fleet.duplicates());
    drop((fleet, server));
    // A new server, because the first keeps the memory that filling the clients took.
    let server = Server::start(peers, subject, Kind::Cds, crowd.resources).await?;
    let before = server.memory()?;
    let mut fleet = Fleet::connect(server.port, Kind::Cds, &good, crowd.resources, Some(&held));
    fleet.answered(LIMIT).await?;
    let returned = per_client(&server, &mut fleet, before, crowd).await?;
    Ok(Memory {
        filled,
        returned,
        lost: lost + fleet.lost(0, LIMIT).await?,
        duplicates: duplicates + fleet.duplicates(),
    })
}

async fn per_client(server: &Server, fleet: &mut Fleet, before: u64, crowd: Crowd) -> Result<f64> {
    server.settle().await?;
    fleet.still_connected()?;
    Ok(server.memory()?.saturating_sub(before) as f64 / 1024.0 / crowd.clients as f64)
}

impl From<Memory> for Readings {
    fn from(memory: Memory) -> Self {
        vec![
            Reading::of("per client that was filled", memory.filled, "KiB"),
            Reading::of("per client that came back", memory.returned, "KiB"),
            Reading::fault("lost", memory.lost),
            Reading::fault("sent to who had it", memory.duplicates),
        ]
        .into()
    }
}
