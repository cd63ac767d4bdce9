//! Hundreds of hostile calls, as data (`bench/attacks/*.json`), against the whole stack as real
//! processes: `make test-attacks`. Each case says what must hold; afterwards a bystander tenant
//! must be served as before.
#![expect(clippy::print_stdout, reason = "the count is what this test is run for")]

mod cases;
mod gateway;
mod grpc;
mod h2;
mod hub;
mod innocent;
mod node;
mod rest;
mod stage;
mod wire;

use std::time::{Duration, Instant};

use anyhow::Result;

use cases::{Area, File};
use innocent::Innocent;
use stage::Stage;

/// Slower cases are printed: something waited for a timeout.
const SLOW: Duration = Duration::from_secs(3);

/// The least number of cases.
const AT_LEAST: usize = 500;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a part of CI by itself: make test-attacks"]
async fn no_hostile_call_gets_what_it_wants() -> Result<()> {
    let started = Instant::now();
    let mut stage = Stage::start().await?;
    let innocent = Innocent::start(&stage).await?;
    let (mut calls, mut failures) = (0, Vec::new());
    for file in cases::files()? {
        let before = (calls, failures.len(), Instant::now());
        run(&mut stage, &file, &mut calls, &mut failures).await?;
        let (calls, failed) = (calls - before.0, failures.len() - before.1);
        println!("{}: {calls} calls, {failed} failed, {:.1?}", file.name, before.2.elapsed());
    }
    for failure in &failures {
        println!("FAILED {failure}");
    }
    println!("{calls} hostile calls, {} failed, {:.0?}", failures.len(), started.elapsed());
    innocent.ends_unharmed(&stage).await?;
    stage.processes_live().await?;
    assert!(failures.is_empty(), "{} of {calls} hostile calls failed", failures.len());
    let some = std::env::var("ATTACKS").is_ok_and(|some| !some.is_empty());
    assert!(some || calls >= AT_LEAST, "only {calls} hostile calls");
    Ok(())
}

async fn run(
    stage: &mut Stage,
    file: &File,
    calls: &mut usize,
    failures: &mut Vec<String>,
) -> Result<()> {
    for case in &file.cases {
        for (name, case) in cases::expand(case, &stage.vars)? {
            let began = Instant::now();
            let outcome = match file.area {
                Area::Rest => rest::run(stage, case).await?,
                Area::Gateway => gateway::run(stage, case).await?,
                Area::H2 => h2::run(stage, case).await?,
                Area::Hub => hub::run(stage, case).await?,
                Area::Node => node::run(stage, case).await?,
            };
            if began.elapsed() > SLOW {
                println!("{}: {name}: took {:.1?}", file.name, began.elapsed());
            }
            *calls += outcome.calls;
            failures.extend(outcome.failure.map(|why| format!("{}: {name}: {why}", file.name)));
        }
    }
    Ok(())
}

/// The result of one case.
struct Outcome {
    /// 0 if it only prepared something.
    calls: usize,
    /// `None` if everything holds.
    failure: Option<String>,
}

impl Outcome {
    fn of(calls: usize, result: Result<(), String>) -> Self {
        Self { calls, failure: result.err() }
    }
}
