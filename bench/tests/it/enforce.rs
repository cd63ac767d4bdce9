//! What `make bench-enforce` and `make soak-enforce` measure, for a moment: every answer and every
//! count is checked, the times are not.

use std::time::Duration;

use anyhow::Result;
use imp_bench::enforce::{self, Contents, Door, Plan, Protocol, Soak};
use imp_bench::stack::program;

use crate::alone::side_by_side;

const CONTENTS: Contents = Contents { keys: 500, per_subscription: 5, limits: 2 };

#[tokio::test(flavor = "multi_thread")]
async fn every_door_answers_in_every_way() -> Result<()> {
    let _turn = side_by_side().await;
    let plan = Plan {
        contents: CONTENTS,
        doors: Door::ALL.into_iter().chain([Door::Beside(1)]).collect(),
        beside: vec![program("libimp_module.so")?],
        starts: 1,
        rounds: 1,
        lasts: Duration::from_millis(200),
        callers: 4,
        ways: vec![
            (Protocol::Http1, false),
            (Protocol::Http1, true),
            (Protocol::Http2, true),
            (Protocol::Tls, false),
        ],
    };
    let cells = enforce::run(&program("libimp_module.so")?, &plan, |_| {}).await?;
    assert_eq!(cells.len(), plan.ways.len() * plan.doors.len());
    let rounds = cells.values().flatten();
    assert!(rounds.clone().all(|round| round.rate > 10.0), "{cells:?}");
    assert_eq!(rounds.count(), cells.len(), "the first turn is not measured");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_exact_while_keys_come_and_go() -> Result<()> {
    let _turn = side_by_side().await;
    let plan =
        Soak { contents: CONTENTS, lasts: Duration::from_secs(2), callers: 8, updates: 1_000 };
    let soaked = enforce::soak(&program("libimp_module.so")?, &plan, |_| {}).await?;
    assert_eq!(soaked.counted, soaked.calls);
    assert!(soaked.calls > 100 && soaked.updates > 100, "{soaked:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_worker_refuses_a_revoked_key() -> Result<()> {
    let _turn = side_by_side().await;
    let revoked = enforce::revoke(&program("libimp_module.so")?, &CONTENTS, 10).await?;
    assert_eq!((revoked.refused.0.len(), revoked.applied.0.len()), (10, 10));
    Ok(())
}
