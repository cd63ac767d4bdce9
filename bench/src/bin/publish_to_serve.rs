//! The benchmark `publish_to_serve`; `bench/README.md` says how to read it.

use std::ops::Range;

use anyhow::{Result, ensure};
use clap::Parser;
use imp_bench::publish::{Bytes, Floor, Ours, Timings};
use imp_bench::report::{Figure, Machine, Report, Times, write_samples};
use imp_bench::stack::envoy_binary;

/// The time from requesting a publish until every worker of a real Envoy serves it.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Publishes of ours and of the floor, one after another; a multiple of ten blocks.
    #[arg(long, default_value_t = 1_800)]
    publishes: usize,
    /// Publishes of one subject before the next subject's turn.
    #[arg(long, default_value_t = 30)]
    block: usize,
    /// The first checkpoint.
    #[arg(long, default_value_t = 300)]
    checkpoint: usize,
    /// Publishes of the usual layout at each checkpoint; the ones before are loaded outside of the
    /// measurement.
    #[arg(long, default_value_t = 30)]
    usual: usize,
    /// Publishes whose bytes are counted, outside of the time measurement.
    #[arg(long, default_value_t = 21)]
    counted: usize,
    /// Envoy's worker threads.
    #[arg(long, default_value_t = 2)]
    workers: u32,
}

/// Everything measured.
struct Run {
    ours: Timings,
    floor: Timings,
    pipelined: Timings,
    /// At the first checkpoint and at the end.
    usual: [Times; 2],
    bytes: [Bytes; 3],
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    imp_bench::install_crypto();
    ensure!(
        arguments.usual < arguments.checkpoint && arguments.checkpoint < arguments.publishes,
        "usual < checkpoint < publishes"
    );
    let machine = Machine::here(&envoy_binary()?);
    let run = measure(&arguments).await?;
    let report = Report::new(machine, figures(&arguments, &run));
    say(&format!("\n{}", report.table()));
    let samples = serde_json::json!({
        "unit": "ms",
        "ours": run.ours.from_post,
        "ours_from_answer": run.ours.from_commit,
        "floor": run.floor.from_post,
        "floor_without_barrier": run.pipelined.from_post,
        "usual_layout": run.usual,
    });
    write_samples("publish_to_serve", &samples)?;
    let file = report.write("publish_to_serve")?;
    say(&format!("written: {}", file.display()));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the output of a benchmark")]
fn say(text: &str) {
    println!("{text}");
}

async fn measure(arguments: &Arguments) -> Result<Run> {
    let (total, workers) = (arguments.publishes, arguments.workers);
    say(&format!("preparing {total} services and products, twice"));
    let mut ours = Ours::start(&[], workers).await?;
    ours.prepare(total + arguments.counted).await?;
    let mut usual = Ours::start(&["--layout", "whole-rds"], workers).await?;
    usual.prepare(total + arguments.counted).await?;
    let mut floor = Floor::start(true, workers).await?;
    let mut pipelined = Floor::start(false, workers).await?;
    floor.attach(workers).await?;
    pipelined.attach(workers).await?;
    ours.load(0..1).await?;
    ours.attach(1).await?;

    let mut run = Run {
        ours: Timings::default(),
        floor: Timings::default(),
        pipelined: Timings::default(),
        usual: [Times::default(), Times::default()],
        bytes: [Bytes::default(); 3],
    };
    let mut loaded = 0;
    let mut next = 1;
    for (checkpoint, end) in [arguments.checkpoint, total].into_iter().enumerate() {
        let before = end - arguments.usual;
        say(&format!("loading {before} publishes of the usual layout, off the clock"));
        usual.load(loaded..before).await?;
        usual.attach(before).await?;
        loaded = before;
        while next < end {
            let block = next..(next + arguments.block).min(end);
            next = block.end;
            for index in block.clone() {
                run.ours.push(ours.publish(index).await?);
            }
            for index in block.clone() {
                run.floor.push(floor.publish(index).await?);
            }
            for index in block.clone() {
                run.pipelined.push(pipelined.publish(index).await?);
            }
            let times = run.usual.get_mut(checkpoint);
            let share = share_of_usual(&block, end, arguments);
            if let Some(times) = times.filter(|_| share > 0) {
                for index in loaded..loaded + share {
                    times.0.push(usual.publish(index).await?.from_post);
                }
                loaded += share;
            }
            progress(&block, &run);
        }
    }
    say("counting bytes, off the clock");
    let counted = total..total + arguments.counted;
    run.bytes = [
        ours.bytes(counted.clone()).await?,
        floor.bytes(counted.clone(), workers).await?,
        usual.bytes(counted).await?,
    ];
    Ok(run)
}

/// The usual layout's turns fall into the last three blocks before a checkpoint.
fn share_of_usual(block: &Range<usize>, end: usize, arguments: &Arguments) -> usize {
    let blocks_left = (end - block.end).div_ceil(arguments.block);
    let third = arguments.usual / 3;
    match blocks_left {
        0 => arguments.usual - 2 * third,
        1 | 2 => third,
        _ => 0,
    }
}

fn progress(block: &Range<usize>, run: &Run) {
    let last = |times: &Times| {
        let length = times.0.len();
        times.part(length.saturating_sub(block.len())..length).percentile(0.5)
    };
    let usual = run.usual.iter().rev().find(|times| !times.0.is_empty());
    say(&format!(
        "{:>6} publishes: ours {:7.2} ms, floor {:7.2}, floor without barrier {:7.2}, usual layout {:7.1}",
        block.end,
        last(&run.ours.from_post),
        last(&run.floor.from_post),
        last(&run.pipelined.from_post),
        usual.map_or(f64::NAN, |times| times.percentile(0.5)),
    ));
}

fn figures(arguments: &Arguments, run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    let (total, first) = (arguments.publishes, arguments.checkpoint);
    let mut spread = |name: &str, times: &Times| {
        for (label, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            figures.push(Figure::new(format!("{name} {label}"), times.percentile(share), "ms"));
        }
    };
    spread(&format!("ours, POST to serve, {first}"), &run.ours.from_post.part(0..first - 1));
    spread(&format!("ours, POST to serve, {total}"), &run.ours.from_post);
    spread(&format!("ours, answer to serve, {total}"), &run.ours.from_commit);
    spread(&format!("ours, POST to answer, {total}"), &run.ours.to_commit);
    spread(&format!("floor, {first}"), &run.floor.from_post.part(0..first - 1));
    spread(&format!("floor, {total}"), &run.floor.from_post);
    spread(&format!("floor without barrier, {total}"), &run.pipelined.from_post);
    spread(&format!("usual layout at {first}"), &run.usual[0]);
    spread(&format!("usual layout at {total}"), &run.usual[1]);

    let p50 = run.ours.from_post.percentile(0.5);
    for (name, peer) in [("floor", &run.floor), ("floor without barrier", &run.pipelined)] {
        let figure = Figure::new(format!("ours p50, {total}"), p50, "ms")
            .beside(name, p50 / peer.from_post.percentile(0.5));
        figures.push(if name == "floor" { figure.at_most(2.5) } else { figure });
    }
    let late = run.ours.from_post.part(total.saturating_sub(first)..total).percentile(0.5);
    for (at, times) in [(first, &run.usual[0]), (total, &run.usual[1])] {
        let ours =
            if at == total { late } else { run.ours.from_post.part(0..first - 1).percentile(0.5) };
        let peer = format!("ours there (how often faster ours is than the usual layout at {at})");
        let figure = Figure::new(format!("usual layout p50 at {at}"), times.percentile(0.5), "ms")
            .beside(&peer, times.percentile(0.5) / ours);
        figures.push(if at == total { figure.at_least(20.0) } else { figure });
    }
    let growth = run.ours.from_post.growth();
    figures.push(Figure::new("ours, last 10 % by first 10 %, p50", growth, "x").at_most(1.2));
    figures.push(Figure::new(
        "floor, last 10 % by first 10 %, p50",
        run.floor.from_post.growth(),
        "x",
    ));
    figures.extend(bytes(run));
    figures
}

fn bytes(run: &Run) -> Vec<Figure> {
    let [ours, floor, usual] = run.bytes;
    let by = |a: f64, b: f64| a / b.max(1.0);
    vec![
        Figure::new("ours, control plane to agent", ours.to_agent, "B"),
        Figure::new("ours, agent to Envoy", ours.to_envoy, "B")
            .beside("floor", by(ours.to_envoy, floor.to_envoy)),
        Figure::new("floor, stub to Envoy", floor.to_envoy, "B"),
        Figure::new("usual layout, agent to Envoy", usual.to_envoy, "B")
            .beside("ours", by(usual.to_envoy, ours.to_envoy)),
    ]
}
