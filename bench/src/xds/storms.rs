//! All clients connect at once, and again with what they had.

use std::time::Instant;

use anyhow::Result;

use super::client::Manner;
use super::fleet::Fleet;
use super::server::LIMIT;
use super::{Kind, Peers, Reading, Readings, Server, Subject};

/// The size of a crowd.
#[derive(Clone, Copy, Debug)]
pub struct Crowd {
    pub clients: usize,
    pub resources: usize,
}

/// The cost of a storm until the server is quiet again.
#[derive(Clone, Debug, Default)]
pub struct Storm {
    /// Bytes read by all clients.
    pub bytes: f64,
    /// Milliseconds until all clients were served.
    pub time: f64,
    /// The server's CPU, in milliseconds.
    pub cpu: f64,
    /// How often a client was told to come back later.
    pub turned_away: f64,
}

/// Both storms.
#[derive(Clone, Debug, Default)]
pub struct Storms {
    /// Clients without resources, until they have everything.
    pub first: Storm,
    /// Clients with all resources, until they are known to be in sync.
    pub again: Storm,
    /// Wrong resources after either storm.
    pub lost: u64,
    /// Resources that clients received although they had them, in either storm.
    pub duplicates: u64,
}

/// Runs the storms of a crowd.
pub async fn storms(peers: &Peers, subject: Subject, crowd: Crowd) -> Result<Storms> {
    let server = Server::start(peers, subject, Kind::Cds, crowd.resources).await?;
    let good = vec![Manner::Good; crowd.clients];
    let meter = Meter::start(&server)?;
    let mut fleet = Fleet::connect(server.port, Kind::Cds, &good, crowd.resources, None);
    fleet.synced(LIMIT).await?;
    let first = meter.stop(&mut fleet).await?;
    let held = fleet.holding()?;
    let (lost, duplicates) = (fleet.lost(0, LIMIT).await?, fleet.duplicates());
    drop(fleet);
    server.settle().await?;
    let meter = Meter::start(&server)?;
    let mut fleet = Fleet::connect(server.port, Kind::Cds, &good, crowd.resources, Some(&held));
    // Empty responses count: they show that a client is in sync.
    fleet.answered(LIMIT).await?;
    let again = meter.stop(&mut fleet).await?;
    let lost = lost + fleet.lost(0, LIMIT).await?;
    Ok(Storms { first, again, lost, duplicates: duplicates + fleet.duplicates() })
}

struct Meter<'a> {
    server: &'a Server,
    cpu: std::time::Duration,
    started: Instant,
}

impl<'a> Meter<'a> {
    fn start(server: &'a Server) -> Result<Self> {
        Ok(Self { server, cpu: server.cpu()?, started: Instant::now() })
    }

    /// Time is measured up to here; bytes and CPU until the server is quiet.
    async fn stop(self, fleet: &mut Fleet) -> Result<Storm> {
        let time = self.started.elapsed().as_secs_f64() * 1e3;
        self.server.settle().await?;
        fleet.still_connected()?;
        let cpu = self.server.cpu()?.saturating_sub(self.cpu).as_secs_f64() * 1e3;
        let (bytes, turned_away) = (fleet.bytes() as f64, fleet.turned_away() as f64);
        Ok(Storm { bytes, time, cpu, turned_away })
    }
}

impl From<Storms> for Readings {
    fn from(storms: Storms) -> Self {
        let Storms { first, again, lost, duplicates } = storms;
        vec![
            Reading::of("first sync, CPU", first.cpu, "ms"),
            Reading::of("first sync, time", first.time, "ms"),
            Reading::of("first sync, bytes", first.bytes, "B"),
            Reading::of("first sync, told to come later", first.turned_away, ""),
            Reading::of("all come back, CPU", again.cpu, "ms"),
            Reading::of("all come back, time", again.time, "ms"),
            Reading::of("all come back, bytes", again.bytes, "B"),
            Reading::of("all come back, bytes by a full sync's", again.bytes / first.bytes, ""),
            Reading::fault("lost", lost),
            Reading::fault("sent to who had it", duplicates),
        ]
        .into()
    }
}
