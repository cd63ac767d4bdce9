//! `make bench-xds`: imp-xds beside go-control-plane, on the same changes and the same clients.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow, ensure};
use clap::Parser;
use imp_bench::report::{Figure, Machine, Report, Times, write_samples};
use imp_bench::stack::envoy_binary;
use imp_bench::xds::{Cell, Change, Kind, Outcome, Peers, Storms, Subject, memory, run, storms};

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
    /// Only the cells whose name holds this text, and no storms.
    #[arg(long)]
    only: Option<String>,
    /// Our side alone, though the peers are there.
    #[arg(long)]
    alone: bool,
}

/// All rounds of a cell, by subject.
type Rounds = BTreeMap<&'static str, Vec<Outcome>>;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let rounds = if arguments.quick { 1 } else { arguments.rounds.max(1) };
    let peers = if arguments.alone { Err(anyhow!("not wanted")) } else { Peers::build().await };
    let peers = peers.unwrap_or_else(|why| {
        say(&format!("our side alone, no go-control-plane: {why:#}"));
        Peers::absent()
    });
    let mut figures = Vec::new();
    let mut samples = BTreeMap::new();
    let only = arguments.only.as_deref().unwrap_or_default();
    for cell in cells(&arguments).iter().filter(|cell| cell.name().contains(only)) {
        let measured = measure(&peers, cell, rounds).await?;
        figures.extend(cell_figures(cell, &measured));
        let delays = |rounds: &[Outcome]| -> Vec<f64> {
            rounds.iter().flat_map(|round| round.delays.0.clone()).collect()
        };
        let delays: BTreeMap<_, _> = measured.iter().map(|(who, r)| (*who, delays(r))).collect();
        samples.insert(cell.name(), delays);
    }
    let size = if arguments.quick { (20, 50) } else { (1_000, 1_000) };
    let subjects = if arguments.only.is_some() { Vec::new() } else { peers.subjects() };
    for subject in subjects {
        say(&format!("storms of {} clients x {} clusters: {}", size.0, size.1, subject.name()));
        figures.extend(storm_figures(subject, storms(&peers, subject, size.0, size.1).await?));
        let (clients, resources) = if arguments.quick { (20, 50) } else { (1_000, 10_000) };
        let kib = memory(&peers, subject, clients, resources).await?;
        let name =
            format!("{}: memory per connected client, {resources} resources", subject.name());
        let figure = Figure::new(name, kib, "KiB");
        figures.push(if subject == Subject::Ours { figure.at_most(64.0) } else { figure });
    }
    let envoy = envoy_binary().unwrap_or_default();
    let report = Report::new(Machine::here(&envoy), figures);
    say(&format!("\n{}", report.table()));
    write_samples("xds", &samples)?;
    say(&format!("written: {}", report.write("xds")?.display()));
    Ok(())
}

fn cells(arguments: &Arguments) -> Vec<Cell> {
    let cell =
        |kind, clients, resources, change| Cell { kind, clients, resources, change, slow: false };
    if arguments.quick {
        return vec![
            cell(Kind::Cds, 10, 100, Change::One),
            cell(Kind::Eds, 10, 100, Change::Burst(200)),
            Cell { slow: true, ..cell(Kind::Cds, 20, 100, Change::Steady(1)) },
        ];
    }
    if arguments.full {
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
        all.push(Cell { slow: true, ..cell(Kind::Cds, 100, 1_000, Change::One) });
        return all;
    }
    vec![
        cell(Kind::Cds, 100, 1_000, Change::One),
        cell(Kind::Cds, 100, 10_000, Change::One),
        cell(Kind::Cds, 100, 1_000, Change::Percent),
        cell(Kind::Cds, 100, 1_000, Change::Burst(1_000)),
        cell(Kind::Cds, 100, 1_000, Change::Steady(5)),
        cell(Kind::Eds, 100, 1_000, Change::One),
        cell(Kind::Cds, 1_000, 100, Change::One),
        Cell { slow: true, ..cell(Kind::Cds, 100, 1_000, Change::One) },
    ]
}

async fn measure(peers: &Peers, cell: &Cell, rounds: usize) -> Result<Rounds> {
    let mut measured = Rounds::new();
    for round in 1..=rounds {
        for subject in peers.subjects() {
            let outcome = run(peers, subject, cell).await?;
            say(&format!(
                "{}, round {round} of {rounds}: {:<13} {:10.3} CPU-s per 1,000 changes, p50 {:8.2} ms",
                cell.name(),
                subject.name(),
                outcome.cpu,
                outcome.delays.percentile(0.5),
            ));
            let ours = subject == Subject::Ours;
            ensure!(!ours || outcome.lost == 0, "{}: {} lost", cell.name(), outcome.lost);
            measured.entry(subject.name()).or_default().push(outcome);
        }
    }
    Ok(measured)
}

fn median(rounds: &[Outcome], value: impl Fn(&Outcome) -> f64) -> f64 {
    Times(rounds.iter().map(value).collect()).percentile(0.5)
}

fn cell_figures(cell: &Cell, measured: &Rounds) -> Vec<Figure> {
    let none = Vec::new();
    let name = cell.name();
    let of = |subject: Subject| measured.get(subject.name()).unwrap_or(&none);
    let ours = of(Subject::Ours);
    let mut figures = Vec::new();
    for (what, unit, value) in [
        ("CPU per 1,000 changes", "CPU-s", (|o| o.cpu) as fn(&Outcome) -> f64),
        ("sync of all, CPU", "ms", |o| o.sync_cpu),
        ("sync of all, time", "ms", |o| o.sync_time),
        ("bytes per change", "B", |o| o.bytes),
        ("memory per client after the sync", "KiB", |o| o.memory),
    ] {
        let figure = Figure::new(format!("{name}: {what}"), median(ours, value), unit);
        figures.push(figure);
        for peer in [Subject::Snapshot, Subject::Linear] {
            let rounds = of(peer);
            if rounds.is_empty() {
                continue;
            }
            let (theirs, mine) = (median(rounds, value), median(ours, value));
            let label = format!("ours ({})", peer.name());
            let figure = Figure::new(format!("{name}: {what}, {}", peer.name()), theirs, unit)
                .beside(&label, theirs / mine);
            figures.push(aimed(cell, what, peer, figure));
        }
    }
    for subject in [Subject::Ours, Subject::Snapshot, Subject::Linear] {
        let rounds = of(subject);
        if !rounds.is_empty() {
            figures.extend(arrival(cell, subject, rounds));
        }
    }
    figures
}

/// The targets against the cache that shares a world among clients, as gateways use it.
fn aimed(cell: &Cell, what: &str, peer: Subject, figure: Figure) -> Figure {
    let one = cell.change == Change::One && cell.kind == Kind::Cds && !cell.slow;
    match (what, peer, cell.clients, cell.resources) {
        ("CPU per 1,000 changes", Subject::Snapshot, 100, 1_000) if one => figure.at_least(50.0),
        ("CPU per 1,000 changes", Subject::Snapshot, 100, 10_000) if one => figure.at_least(500.0),
        ("sync of all, CPU", Subject::Snapshot, 100, _) if one => figure.at_least(5.0),
        _ => figure,
    }
}

fn arrival(cell: &Cell, subject: Subject, rounds: &[Outcome]) -> Vec<Figure> {
    let all = Times(rounds.iter().flat_map(|round| round.delays.0.clone()).collect());
    let name = format!("{}: last client has it, {}", cell.name(), subject.name());
    let figure = |share: f64, label: &str| {
        Figure::new(format!("{name}, {label}"), all.percentile(share), "ms")
    };
    let late = figure(0.99, "p99");
    let one = cell.change == Change::One && cell.clients == 100 && subject == Subject::Ours;
    let late = if one { late.at_most(50.0) } else { late };
    let sum = |value: fn(&Outcome) -> u64| rounds.iter().map(value).sum::<u64>() as f64;
    let told = |what: &str, value: f64| {
        let figure =
            Figure::new(format!("{}: {what}, {}", cell.name(), subject.name()), value, "resources");
        if subject == Subject::Ours { figure.at_most(0.0) } else { figure }
    };
    vec![
        figure(0.5, "p50"),
        late,
        figure(1.0, "max"),
        told("lost updates", sum(|o| o.lost)),
        told("sent twice", sum(|o| o.duplicates)),
    ]
}

fn storm_figures(subject: Subject, storms: Storms) -> Vec<Figure> {
    let ours = subject == Subject::Ours;
    let who = subject.name();
    let share = storms.again_bytes / storms.full_bytes.max(1.0);
    let aimed = |figure: Figure, limit| if ours { figure.at_most(limit) } else { figure };
    vec![
        Figure::new(format!("storm, {who}: all in sync after"), storms.full_time, "ms"),
        Figure::new(
            format!("storm, {who}: CPU to see that all are in sync"),
            storms.again_cpu,
            "ms",
        ),
        aimed(
            Figure::new(format!("storm, {who}: bytes to see that"), storms.again_bytes, "B")
                .beside("a full sync", share),
            0.05,
        ),
        aimed(
            Figure::new(
                format!("refusing client, {who}: repeated sends"),
                storms.refused_responses,
                "",
            ),
            0.0,
        ),
    ]
}

#[expect(clippy::print_stdout, reason = "the output of a benchmark")]
fn say(text: &str) {
    println!("{text}");
}
