//! What a connected client costs the server.

use anyhow::Result;

use super::client::Manner;
use super::fleet::Fleet;
use super::server::LIMIT;
use super::{Crowd, Kind, Peers, Reading, Readings, Server, Subject};

/// While clients are connected that held everything before they came: what a connection costs,
/// without what its synchronisation took.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// The server's resident memory per client, in KiB.
    pub kib: f64,
    /// Resources that are not what they should be.
    pub lost: u64,
    /// Resources that came though the clients had them.
    pub duplicates: u64,
}

/// With such a crowd.
pub async fn memory(peers: &Peers, subject: Subject, crowd: Crowd) -> Result<Memory> {
    let Crowd { clients, resources } = crowd;
    let server = Server::start(peers, subject, Kind::Cds, resources).await?;
    let one = [Manner::Good];
    let mut first = Fleet::connect(server.port, Kind::Cds, &one, resources, None);
    first.synced(LIMIT).await?;
    let held = first.holding()?;
    drop((first, server));
    let server = Server::start(peers, subject, Kind::Cds, resources).await?;
    let before = server.memory()?;
    let good = vec![Manner::Good; clients];
    let mut fleet = Fleet::connect(server.port, Kind::Cds, &good, resources, Some(&held));
    fleet.answered(LIMIT).await?;
    server.settle().await?;
    fleet.still_connected()?;
    let kib = server.memory()?.saturating_sub(before) as f64 / 1024.0 / clients as f64;
    Ok(Memory { kib, lost: fleet.lost(0, LIMIT).await?, duplicates: fleet.duplicates() })
}

impl From<Memory> for Readings {
    fn from(memory: Memory) -> Self {
        vec![
            Reading::of("per connected client", memory.kib, "KiB"),
            Reading::fault("lost", memory.lost),
            Reading::fault("sent to who had it", memory.duplicates),
        ]
        .into()
    }
}
