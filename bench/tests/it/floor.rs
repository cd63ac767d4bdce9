//! The benchmark's floor is valid: a real Envoy accepts and serves what the stub pushes.

use anyhow::Result;
use imp_bench::publish::{Floor, host};

use crate::alone::side_by_side;

#[tokio::test(flavor = "multi_thread")]
async fn the_floor_publishes_to_every_worker_of_a_real_envoy() -> Result<()> {
    let _turn = side_by_side().await;
    for barrier in [true, false] {
        let mut floor = Floor::start(barrier, 2).await?;
        floor.attach(2).await?;
        for index in 1..20 {
            let timing = floor.publish(index).await?;
            assert!(timing.from_post > 0.0, "{} was served before it was pushed", host(index));
        }
        let bytes = floor.bytes(20..25, 2).await?;
        assert!((100.0..10_000.0).contains(&bytes.to_envoy), "{bytes:?}");
    }
    Ok(())
}
