//! One cell of the matrix: a number of clients, of resources, and a kind of change.

use super::client::Manner;
use super::{Kind, Subject};

/// How the resource set changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// One resource, again once all clients have it.
    One,
    /// One in a hundred at once, again once all clients have it.
    Percent,
    /// This many, one by one, as fast as the server takes them.
    Burst(usize),
    /// 100 a second, for this many seconds.
    Steady(u64),
}

/// One cell of the matrix.
#[derive(Clone, Copy, Debug)]
pub struct Cell {
    pub kind: Kind,
    pub clients: usize,
    pub resources: usize,
    pub change: Change,
    /// Whether every tenth client is slow.
    pub slow: bool,
}

impl Cell {
    /// The name to print.
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

    /// The behaviour of each client.
    pub(super) fn manners(&self) -> Vec<Manner> {
        let slow = |index: usize| self.slow && index % 10 == 9;
        let manner = |index| if slow(index) { Manner::Slow } else { Manner::Good };
        (0..self.clients).map(manner).collect()
    }

    /// The number of changes, such that a round takes a peer at most some 8 CPU-seconds:
    /// SnapshotCache takes about 0.65 us for each client and resource.
    pub(super) fn times(&self, subject: Subject) -> usize {
        let work = self.clients * self.resources;
        match subject {
            Subject::Ours | Subject::Floor => 100,
            Subject::Snapshot | Subject::Linear => (12_000_000 / work.max(1)).clamp(2, 50),
        }
    }
}
