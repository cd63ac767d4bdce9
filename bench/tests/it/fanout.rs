//! What `bench-xds` measures is right before it is fast.

use anyhow::Result;
use imp_bench::xds::{Cell, Change, Kind, Peers, Subject, run, storms};

use crate::alone::side_by_side;

#[tokio::test(flavor = "multi_thread")]
async fn no_update_is_lost_or_sent_twice() -> Result<()> {
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
async fn who_has_everything_is_sent_nothing_and_who_refuses_is_left_alone() -> Result<()> {
    let _turn = side_by_side().await;
    let storms = storms(&Peers::absent(), Subject::Ours, 20, 100).await?;
    assert!(storms.again_bytes * 20.0 < storms.full_bytes, "{storms:?}");
    assert!(storms.refused_responses == 0.0, "{storms:?}");
    Ok(())
}
