//! Changes one after another, each timed until a caller sees it, with what they cost.

use std::ops::Range;
use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use super::side::Side;
use super::watch::{milliseconds, surely};
use crate::report::Times;

/// Changes of one kind.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Block {
    /// From the request until a caller sees it, in milliseconds.
    pub seen: Times,
    /// From the request until its answer, in milliseconds.
    pub answered: Times,
    /// CPU of each change, in milliseconds, until the processes rest.
    pub cpu: f64,
    /// Bytes to Envoy for each.
    pub bytes: f64,
}

impl Block {
    /// Together with later ones.
    pub(super) fn and(self, other: Self) -> Self {
        let (ours, theirs) = (self.seen.0.len() as f64, other.seen.0.len() as f64);
        let mean = |mine: f64, its: f64| (mine * ours + its * theirs) / (ours + theirs).max(1.0);
        Self {
            seen: Times([self.seen.0, other.seen.0].concat()),
            answered: Times([self.answered.0, other.answered.0].concat()),
            cpu: mean(self.cpu, other.cpu),
            bytes: mean(self.bytes, other.bytes),
        }
    }
}

/// Some were added, then removed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Changes {
    pub added: Block,
    pub removed: Block,
}

impl Changes {
    pub(super) fn and(self, other: Self) -> Self {
        Self { added: self.added.and(other.added), removed: self.removed.and(other.removed) }
    }
}

/// Adds these and removes them again.
pub(super) async fn changes(side: &impl Side, range: Range<usize>) -> Result<Changes> {
    let added = timed(side, range.clone(), 200, async |index| side.add(index).await).await?;
    let removed = timed(side, range, 404, async |index| side.remove(index).await).await?;
    Ok(Changes { added, removed })
}

/// Makes these changes; callers get this status from then on.
pub(super) async fn timed(
    side: &impl Side,
    range: Range<usize>,
    status: u16,
    change: impl AsyncFn(usize) -> Result<()>,
) -> Result<Block> {
    side.rests().await?;
    let (mut block, number) = (Block::default(), range.len().max(1) as f64);
    let before = (side.cpu()?, side.bytes().await?);
    for index in range {
        let request = side.place(index).request(None);
        let sent = Instant::now();
        change(index).await?;
        let answered = Instant::now();
        let seen = surely(side.edge().address, request, status).await?;
        block.seen.0.push(milliseconds(sent, seen));
        block.answered.0.push(milliseconds(sent, answered));
        side.rests().await?;
    }
    block.cpu = side.cpu()?.saturating_sub(before.0).as_secs_f64() * 1_000.0 / number;
    block.bytes = side.bytes().await?.saturating_sub(before.1) as f64 / number;
    Ok(block)
}
