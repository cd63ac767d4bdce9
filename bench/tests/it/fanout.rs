//! Checks the correctness of what `bench-xds` measures.

use std::time::Duration;

use anyhow::Result;
use imp_bench::xds::{
    Cell, Change, Crowd, Kind, Peers, Readings, Rules, Subject, Trial, Work, figures, measure,
    memory, refusing, run, storms,
};

use crate::alone::side_by_side;

#[tokio::test(flavor = "multi_thread")]
async fn no_update_is_lost_or_sent_twice_not_even_to_slow_clients() -> Result<()> {
    let _turn = side_by_side().await;
    for (kind, change, slow) in [
        (Kind::Cds, Change::One, false),
        (Kind::Cds, Change::Percent, true),
        (Kind::Eds, Change::Burst(300), false),
        (Kind::Cds, Change::Burst(300), true),
    ] {
        let cell = Cell { kind, clients: 20, resources: 100, change, slow };
        let outcome = run(&Peers::absent(), Subject::Ours, &cell).await?;
        assert_eq!((outcome.lost, outcome.duplicates), (0, 0), "{}", cell.name());
        assert!(!outcome.delays.0.is_empty() && outcome.cpu > 0.0, "{}: nothing seen", cell.name());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_floor_serves_what_it_is_measured_on() -> Result<()> {
    let _turn = side_by_side().await;
    let (kind, change) = (Kind::Cds, Change::One);
    let cell = Cell { kind, clients: 20, resources: 100, change, slow: false };
    let outcome = run(&Peers::absent(), Subject::Floor, &cell).await?;
    assert_eq!((outcome.lost, outcome.duplicates), (0, 0));
    assert_eq!(outcome.delays.0.len(), 100, "each change came");
    Ok(())
}

const CROWD: Crowd = Crowd { clients: 20, resources: 100 };

/// A resource is some 650 bytes long, and comes with its name and version.
const ALL_OF_IT: f64 = 20.0 * 100.0 * 650.0;

#[tokio::test(flavor = "multi_thread")]
async fn who_has_everything_is_sent_nothing() -> Result<()> {
    let _turn = side_by_side().await;
    let storms = storms(&Peers::absent(), Subject::Ours, CROWD).await?;
    assert_eq!((storms.lost, storms.duplicates), (0, 0), "{storms:?}");
    assert!((ALL_OF_IT..ALL_OF_IT * 1.3).contains(&storms.first.bytes), "{storms:?}");
    assert!(storms.again.bytes * 20.0 < storms.first.bytes, "{storms:?}");
    let memory = memory(&Peers::absent(), Subject::Ours, CROWD).await?;
    assert_eq!((memory.lost, memory.duplicates), (0, 0), "{memory:?}");
    assert!(memory.filled > 0.0 && memory.returned > 0.0, "{memory:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_refuses_gets_each_version_once_and_each_group_once() -> Result<()> {
    let _turn = side_by_side().await;
    let refusals = refusing(&Peers::absent(), Subject::Ours, 10, 16).await?;
    assert_eq!((refusals.missing, refusals.repeats), (0, 0), "{refusals:?}");
    assert_eq!((refusals.batch_missing, refusals.batch_same), (0, 0), "{refusals:?}");
    // As a whole, and in the end each alone.
    assert!(refusals.batch_responses > 16, "{refusals:?}");
    let faults = Readings::from(refusals).values.into_iter().filter(|reading| reading.fault);
    assert_eq!(faults.count(), 4);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_finish_is_reported_and_ours_goes_on() -> Result<()> {
    let _turn = side_by_side().await;
    let peers = Peers::running(&["sh", "-c", "exec sleep 60"]);
    let cell =
        Cell { kind: Kind::Cds, clients: 2, resources: 10, change: Change::Burst(10), slow: false };
    let trial = Trial::new(Work::Cell(cell));
    let rules = Rules { rounds: 2, peer_limit: Duration::from_millis(200) };
    let measured = measure(&peers, &trial, rules, |_| ()).await;
    assert_eq!(measured.faults(), Vec::<String>::new());
    assert_eq!(measured.rounds.get(&Subject::Ours).map(Vec::len), Some(2));
    let figures = figures(&trial, &measured, 2);
    for peer in [Subject::Snapshot, Subject::Linear] {
        let of = |text: &str| figures.iter().filter(|f| f.name.contains(text)).count();
        assert_eq!((of(peer.name()), of("not finished in 200ms")), (1, 2), "{figures:?}");
    }
    Ok(())
}
