//! A client that refuses everything.

use std::time::Duration;

use anyhow::Result;

use super::client::Manner;
use super::fleet::Fleet;
use super::holding::Refused;
use super::server::LIMIT;
use super::{Kind, Peers, Reading, Readings, Server, Subject};

/// Longer than a server's own timers take to send something again.
const QUIET: Duration = Duration::from_millis(2_500);

/// Long enough for an answer to a refusal, so that the next change does not hide it.
const PAUSE: Duration = Duration::from_millis(50);

/// Who still sends then will never stop.
const REST: Duration = Duration::from_secs(30);

/// What came to clients that refuse.
#[derive(Clone, Debug, Default)]
pub struct Refusals {
    /// Changes of the one resource.
    pub changes: u64,
    /// Versions of it that never came: what is not sent is not sent again either.
    pub missing: u64,
    /// Responses that carried a version of it that had been refused.
    pub repeats: u64,
    /// Resources in the batch that is refused as a whole.
    pub batch: u64,
    /// Those of the batch that never came, and the change after it if that did not.
    pub batch_missing: u64,
    /// Responses to it until no more came.
    pub batch_responses: u64,
    /// Those that carried exactly what another one had. A smaller group is no repeat: that is how
    /// a culprit is found.
    pub batch_same: u64,
}

/// One resource that is changed so often, and a batch of so many.
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

/// With the number of responses until rest. After that, one resource is changed: who has refused
/// everything still hears of what is new.
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
