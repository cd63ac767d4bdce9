//! What `bench-xds` measures is right in itself: our server, at small sizes, without peers.

use anyhow::Result;
use imp_bench::xds::{Cell, Change, Kind, Peers, Subject, run, storms};

use crate::alone::side_by_side;

#[tokio::test(flavor = "multi_thread")]
async fn no_update_is_lost_and_none_is_sent_twice() -> Result<()> {
    let _turn = side_by_side().await;
    for kind in [Kind::Cds, Kind::Eds] {
        for change in [Change::One, Change::Percent, Change::Burst(300), Change::Steady(1)] {
            let cell = Cell { kind, clients: 20, resources: 100, change, slow: true };
            let outcome = run(&Peers::absent(), Subject::Ours, &cell).await?;
            assert_eq!((outcome.lost, outcome.duplicates), (0, 0), "{}", cell.name());
            // Nobody counts as up to date who was sent nothing.
            assert!(outcome.bytes > 100.0 && !outcome.delays.0.is_empty(), "{outcome:?}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_in_sync_or_refuses_everything_is_not_sent_it_again() -> Result<()> {
    let _turn = side_by_side().await;
    let storms = storms(&Peers::absent(), Subject::Ours, 20, 50).await?;
    assert!(storms.full_bytes > 20.0 * 50.0 * 600.0, "{storms:?}");
    assert!(storms.again_bytes < storms.full_bytes / 20.0, "{storms:?}");
    assert_eq!(storms.refused_responses, 0.0);
    Ok(())
}
