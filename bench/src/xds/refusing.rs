//! A client that rejects everything.

use std::time::Duration;

use anyhow::Result;

use super::client::Manner;
use super::fleet::Fleet;
use super::holding::Refused;
use super::server::LIMIT;
use super::{Kind, Peers, Reading, Readings, Server, Subject};

/// Longer than a server's own timers take to resend.
const QUIET: Duration = Duration::from_millis(2_500);

/// Long enough for the answer to a rejection, so that the next change does not hide it.
const PAUSE: Duration = Duration::from_millis(50);

/// A server that still sends then will never stop.
const REST: Duration = Duration::from_secs(30);

/// What rejecting clients received.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    /// Changes of the single resource.
    pub changes: u64,
    /// Versions of it that never arrived; otherwise a server that sends nothing would have no
    /// repeats.
    pub missing: u64,
    /// Responses with a version of it that had been rejected.
    pub repeats: u64,
    /// Resources in the batch that is rejected as a whole.
    pub batch: u64,
    /// Those of the batch that never arrived, and the change after it if it did not.
    pub batch_missing: u64,
    /// Responses with parts of it until no more came.
    pub batch_responses: u64,
    /// Those with exactly the content of another one. A smaller group is no repeat: that is how the
    /// server finds the wrong resource.
    pub batch_same: u64,
}

/// Changes one resource this often, and a batch of this size.
pub async fn refusing(
    peers: &Peers,
    subject: Subject,
    changes: u64,
    batch: u64,
) -> Result<Refusals> {
    let one = one_resource(peers, subject, changes);
    let many = whole_batch(peers, subject, batch);
    let (one, (many, batch_responses)) = tokio::try_join!(one, many)?;
    Ok(Refusals {
        changes,
        missing: (1 + changes).saturating_sub(one.versions()),
        repeats: one.repeats,
        batch,
        batch_missing: (batch + 1).saturating_sub(many.versions()),
        batch_responses,
        batch_same: many.same_sets,
    })
}

async fn one_resource(peers: &Peers, subject: Subject, changes: u64) -> Result<Refused> {
    let mut server = Server::start(peers, subject, Kind::Cds, 1).await?;
    let mut fleet = Fleet::connect(server.port, Kind::Cds, &[Manner::Refusing], 1, None);
    fleet.answered(LIMIT).await?;
    for _ in 0..changes {
        let generation = server.change(1, 1, Duration::ZERO).await?;
        fleet.reached(generation, LIMIT).await?;
        fleet.at_rest(PAUSE, REST).await?;
    }
    fleet.at_rest(QUIET, REST).await?;
    fleet.refused()
}

/// Returns the number of responses until the server is quiet. Then changes one resource: a client
/// that rejected everything must still get new content.
async fn whole_batch(peers: &Peers, subject: Subject, batch: u64) -> Result<(Refused, u64)> {
    let resources = usize::try_from(batch)?;
    let mut server = Server::start(peers, subject, Kind::Cds, resources).await?;
    let mut fleet = Fleet::connect(server.port, Kind::Cds, &[Manner::Refusing], resources, None);
    fleet.answered(LIMIT).await?;
    fleet.at_rest(QUIET, REST).await?;
    let until_rest = fleet.responses();
    let generation = server.change(1, 1, Duration::ZERO).await?;
    fleet.reached(generation, LIMIT).await?;
    fleet.at_rest(PAUSE, REST).await?;
    Ok((fleet.refused()?, until_rest))
}

impl From<Refusals> for Readings {
    fn from(r: Refusals) -> Self {
        let (one, many) = (format!("{} changes", r.changes), format!("batch of {}", r.batch));
        vec![
            Reading::of(format!("{many}: responses until rest"), r.batch_responses as f64, ""),
            Reading::fault(format!("{many}: the same set again"), r.batch_same),
            Reading::fault(format!("{many}: never sent"), r.batch_missing),
            Reading::fault(format!("{one}: sent again"), r.repeats),
            Reading::fault(format!("{one}: never sent"), r.missing),
        ]
        .into()
    }
}
