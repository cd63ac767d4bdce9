use imp_enforce::Ledger as _;
use imp_module::counters::Counters;

use super::*;

const NAME: &str = "calls\tp\ts\tc\t0";

struct Rig {
    directory: tempfile::TempDir,
    counts: Arc<Counters>,
}

impl Rig {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (counts, _) = Counters::open(&directory.path().join("counters")).unwrap();
        Self { directory, counts }
    }

    /// The agent starts.
    fn counted(&self) -> Counted {
        let path = |name: &str| self.directory.path().join(name);
        Counted::new(path("counters"), path("owner.json"), Feed::new(path("snapshot")))
    }

    fn count(&self, allowed: u64) {
        let (place, _) = self.counts.place(NAME).unwrap();
        self.counts.keep(place, [allowed, 0]);
    }
}

/// Epoch and allowed calls of each batch.
fn told(batches: &[Batch]) -> Vec<(&str, u64)> {
    let of = |batch: &Batch| batch.counters.iter().map(|it| it.allowed).sum();
    batches.iter().map(|batch| (batch.epoch.as_str(), of(batch))).collect()
}

#[test]
fn counts_are_told_as_they_are_however_often_the_agent_starts() {
    let rig = Rig::new();
    let counted = rig.counted();
    counted.belongs_to("one");
    assert!(counted.changed().is_empty() && counted.is_settled());
    rig.count(5);
    let batches = counted.changed();
    let [(epoch, 5)] = told(&batches)[..] else { panic!("{batches:?}") };
    assert!(!counted.is_settled());
    assert!(counted.changed().is_empty(), "it is under way");
    counted.begin();
    assert_eq!(told(&counted.changed()), [(epoch, 5)], "it may be lost");
    counted.committed(&batches[0]);
    assert!(counted.is_settled());
    rig.count(7);
    let again = rig.counted();
    again.belongs_to("one");
    assert_eq!(told(&again.changed()), [(epoch, 7)], "of the same epoch");
}

#[test]
fn nobody_pays_twice_when_the_agent_gets_another_identity() {
    let rig = Rig::new();
    let counted = rig.counted();
    counted.belongs_to("one");
    rig.count(5);
    counted.committed(&counted.changed()[0]);
    rig.count(7);
    counted.changed();
    counted.belongs_to("two");
    let batches = counted.changed();
    assert_eq!(batches[0].counters[0].allowed, 2, "what was not acknowledged");
    rig.count(10);
    // What a former process has reported is not known any more.
    let restarted = rig.counted();
    restarted.belongs_to("three");
    assert_eq!(told(&restarted.changed()).iter().map(|(_, it)| it).sum::<u64>(), 0);
    rig.count(12);
    assert_eq!(restarted.changed()[0].counters[0].allowed, 2);
}

#[test]
fn what_cannot_be_read_is_not_settled() {
    let rig = Rig::new();
    let counted = rig.counted();
    assert!(counted.changed().is_empty() && counted.is_settled());
    std::fs::write(rig.directory.path().join("counters/counters-1.bin"), "damaged").unwrap();
    assert!(counted.changed().is_empty() && !counted.is_settled());
}

#[test]
fn a_large_batch_is_split() {
    let rig = Rig::new();
    for number in 0..5 {
        let (place, _) = rig.counts.place(&format!("{NAME}{number}")).unwrap();
        rig.counts.keep(place, [1, 0]);
    }
    let batch = rig.counted().changed().remove(0);
    let parts: Vec<_> = batch.split(2).map(|part| part.counters.len()).collect();
    assert_eq!(parts, [2, 2, 1]);
}
