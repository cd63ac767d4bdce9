//! `make bench-xds`: imp-xds beside go-control-plane, on the same changes and the same clients.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use clap::Parser;
use imp_bench::report::{Figure, Machine, Report, write_samples};
use imp_bench::stack::envoy_binary;
use imp_bench::xds::{Measured, Peers, Rules, Trial, figures, full, measure, quick, usual};

/// imp-xds and go-control-plane, fed the same changes, serving the same clients.
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds; the subjects take turns in each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Every cell of the matrix: hours.
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// A few small cells, one round.
    #[arg(long)]
    quick: bool,
    /// Only cells with this text in their name: a cell such as "cds 100 x 1000, one", or "storms",
    /// "refusing", "memory".
    #[arg(long)]
    only: Option<String>,
    /// Measure only our server and the floor, even if the peers are available.
    #[arg(long)]
    alone: bool,
    /// Seconds that a round may take a peer; after that it is reported as not finished.
    #[arg(long, default_value_t = 120)]
    peer_limit: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let rounds = if arguments.quick { 1 } else { arguments.rounds.max(1) };
    let rules = Rules { rounds, peer_limit: Duration::from_secs(arguments.peer_limit) };
    let peers = if arguments.alone { Err(anyhow!("not wanted")) } else { Peers::build().await };
    let peers = peers.unwrap_or_else(|why| {
        say(&format!("our side alone, no go-control-plane: {why:#}"));
        Peers::absent()
    });
    let trials = chosen(&arguments)?;
    let (mut found, mut samples, mut faults) = (Vec::new(), BTreeMap::new(), Vec::new());
    for (index, trial) in trials.iter().enumerate() {
        let name = trial.name();
        say(&format!("cell {} of {}: {name}", index + 1, trials.len()));
        let measured = measure(&peers, trial, rules, say).await;
        found.extend(figures(trial, &measured, rounds));
        faults.extend(measured.faults().iter().map(|fault| format!("{name}: {fault}")));
        samples.insert(name, delays(&measured));
        // After each, because the whole matrix takes hours.
        write(&found, &samples)?;
    }
    let report = report(&found);
    say(&format!("\n{}\nwritten: {}", report.table(), report.write("xds")?.display()));
    ensure!(faults.is_empty(), "ours has failed:\n{}", faults.join("\n"));
    Ok(())
}

fn chosen(arguments: &Arguments) -> Result<Vec<Trial>> {
    let mut trials = match (arguments.quick, arguments.full) {
        (true, _) => quick(),
        (_, true) => full(),
        _ => usual(),
    };
    if let Some(text) = &arguments.only {
        trials.retain(|trial| trial.name().contains(text));
        ensure!(!trials.is_empty(), "nothing has {text:?} in its name");
    }
    Ok(trials)
}

/// Delays from each change until the last client had it, by subject.
type Delays = BTreeMap<&'static str, Vec<f64>>;

fn delays(measured: &Measured) -> Delays {
    let rounds = measured.rounds.iter();
    rounds
        .map(|(who, rounds)| (who.name(), rounds.iter().flat_map(|r| r.delays.0.clone()).collect()))
        .collect()
}

fn report(figures: &[Figure]) -> Report {
    Report::new(Machine::here(&envoy_binary().unwrap_or_default()), figures.to_vec())
}

fn write(figures: &[Figure], samples: &BTreeMap<String, Delays>) -> Result<()> {
    write_samples("xds", samples)?;
    report(figures).write("xds").map(drop)
}

#[expect(clippy::print_stdout, reason = "the output of a benchmark")]
fn say(text: &str) {
    println!("{text}");
}
