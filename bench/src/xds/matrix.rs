//! All trials, in three sizes.

use anyhow::Result;

use super::{Cell, Change, Crowd, Kind, Peers, Readings, Subject, memory, refusing, run, storms};

/// The work of a round.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    /// One cell of the matrix.
    Cell(Cell),
    /// All clients connect at once, and again.
    Storms(Crowd),
    /// A client that rejects everything.
    Refusing {
        /// Changes of its only resource.
        changes: u64,
        /// The size of a batch that is rejected as a whole.
        batch: u64,
    },
    /// The memory of connected clients.
    Memory(Crowd),
}

/// Work with its maximum number of rounds.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    pub work: Work,
    /// The maximum for any subject.
    pub rounds: usize,
    /// The maximum for a peer.
    pub peer_rounds: usize,
}

impl Trial {
    /// Work with as many rounds as requested.
    pub fn new(work: Work) -> Self {
        Self { work, rounds: usize::MAX, peer_rounds: usize::MAX }
    }

    /// The name to print.
    pub fn name(&self) -> String {
        let crowd = |Crowd { clients, resources }: Crowd| format!("{clients} x {resources}");
        match self.work {
            Work::Cell(cell) => cell.name(),
            Work::Storms(of) => format!("storms of {}", crowd(of)),
            Work::Refusing { .. } => "refusing client".to_owned(),
            Work::Memory(of) => format!("memory of {}", crowd(of)),
        }
    }

    /// The rounds of this subject when `asked` are requested.
    pub(super) fn rounds_of(&self, subject: Subject, asked: usize) -> usize {
        let most = match subject {
            Subject::Ours => usize::MAX,
            // The floor can do nothing else.
            Subject::Floor if !self.is_plain() => 0,
            Subject::Floor | Subject::Snapshot | Subject::Linear => self.peer_rounds,
        };
        asked.min(self.rounds).min(most)
    }

    /// Whether everyone gets everything, then one change after another.
    fn is_plain(&self) -> bool {
        let Work::Cell(cell) = self.work else { return false };
        cell.change == Change::One && cell.kind == Kind::Cds && !cell.slow
    }

    /// Runs one round.
    pub(super) async fn round(&self, peers: &Peers, subject: Subject) -> Result<Readings> {
        Ok(match self.work {
            Work::Cell(cell) => run(peers, subject, &cell).await?.into(),
            Work::Storms(crowd) => storms(peers, subject, crowd).await?.into(),
            Work::Refusing { changes, batch } => {
                refusing(peers, subject, changes, batch).await?.into()
            }
            Work::Memory(crowd) => memory(peers, subject, crowd).await?.into(),
        })
    }
}

fn cell(kind: Kind, clients: usize, resources: usize, change: Change) -> Trial {
    Trial::new(Work::Cell(Cell { kind, clients, resources, change, slow: false }))
}

fn slow(clients: usize, resources: usize, change: Change) -> Trial {
    let kind = Kind::Cds;
    Trial::new(Work::Cell(Cell { kind, clients, resources, change, slow: true }))
}

/// A few small trials, to check that everything works.
pub fn quick() -> Vec<Trial> {
    let crowd = Crowd { clients: 20, resources: 50 };
    vec![
        cell(Kind::Cds, 10, 100, Change::One),
        cell(Kind::Eds, 10, 100, Change::Burst(200)),
        slow(20, 100, Change::Steady(1)),
        Trial::new(Work::Storms(crowd)),
        Trial::new(Work::Refusing { changes: 5, batch: 20 }),
        Trial::new(Work::Memory(crowd)),
    ]
}

/// The trials with targets, some ten minutes.
pub fn usual() -> Vec<Trial> {
    // 30 seconds for each subject, and 3,000 changes.
    let steady = cell(Kind::Cds, 100, 1_000, Change::Steady(30));
    let mut all = vec![
        cell(Kind::Cds, 100, 1_000, Change::One),
        cell(Kind::Cds, 100, 10_000, Change::One),
        cell(Kind::Cds, 100, 1_000, Change::Percent),
        cell(Kind::Cds, 100, 1_000, Change::Burst(1_000)),
        Trial { rounds: 1, ..steady },
        cell(Kind::Eds, 100, 1_000, Change::One),
        cell(Kind::Cds, 1_000, 100, Change::One),
        slow(100, 1_000, Change::One),
    ];
    all.extend(beside_the_matrix(3, 1));
    all
}

/// The whole matrix: hours.
pub fn full() -> Vec<Trial> {
    let mut all = Vec::new();
    for kind in [Kind::Cds, Kind::Eds] {
        for clients in [1, 10, 100, 1_000] {
            for resources in [100, 1_000, 10_000] {
                let changes =
                    [Change::One, Change::Percent, Change::Burst(1_000), Change::Steady(30)];
                all.extend(changes.map(|change| cell(kind, clients, resources, change)));
            }
        }
    }
    all.push(slow(100, 1_000, Change::One));
    all.extend(beside_the_matrix(usize::MAX, usize::MAX));
    all
}

/// 1,000 clients with 10,000 resources are slow, even more so on the peers.
fn beside_the_matrix(rounds_of_memory: usize, of_a_peer: usize) -> [Trial; 3] {
    let memory = Work::Memory(Crowd { clients: 1_000, resources: 10_000 });
    [
        Trial::new(Work::Storms(Crowd { clients: 1_000, resources: 1_000 })),
        Trial::new(Work::Refusing { changes: 20, batch: 100 }),
        Trial { work: memory, rounds: rounds_of_memory, peer_rounds: of_a_peer },
    ]
}
