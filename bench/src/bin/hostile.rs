//! The benchmark `hostile`; `bench/README.md` says how to read it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use imp_bench::hostile::{Attack, Quiet};
use imp_bench::ports;
use imp_bench::process::Memory;
use imp_bench::report::{Figure, Machine, Report, Times, write_samples};
use imp_bench::stack::{Options, Stack, envoy_binary};

/// One tenant at every cap at once, and its effect on another one.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Seconds for which the other tenant's REST calls are measured.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Keys that are revoked under attack.
    #[arg(long, default_value_t = 100)]
    revocations: usize,
    /// Keys that the hostile tenant issues.
    #[arg(long, default_value_t = 2_000)]
    keys: usize,
    /// Connections that it holds open, idle or with half a request.
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
}

/// Everything measured.
struct Run {
    calm: (Times, Times),
    reads: Times,
    writes: Times,
    revocations: Times,
    control_mb: f64,
    agent_mb: f64,
    restart_ms: f64,
    publishes: usize,
    served: u64,
    refused: u64,
    failed: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    imp_bench::install_crypto();
    let machine = Machine::here(&envoy_binary()?);
    let run = measure(&arguments).await?;
    let report = Report::new(machine, figures(&run));
    say(&format!("\n{}", report.table()));
    let samples = serde_json::json!({
        "unit": "ms",
        "reads": run.reads, "writes": run.writes, "revocations": run.revocations,
        "calm_reads": run.calm.0, "calm_writes": run.calm.1,
    });
    write_samples("hostile", &samples)?;
    say(&format!("written: {}", report.write("hostile")?.display()));
    ensure!(run.failed == 0, "the control plane failed {} requests of the attack", run.failed);
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the output of a benchmark")]
fn say(text: &str) {
    println!("{text}");
}

async fn measure(arguments: &Arguments) -> Result<Run> {
    // The control plane keeps its own rates, which are part of the protection.
    let options = Options { control_flags: vec![], ..Options::asking() };
    let mut stack = Stack::start(options).await?;
    say("the quiet tenant");
    let quiet = Quiet::start(&stack, arguments.revocations + 1).await?;
    let calm = quiet.rest(arguments.seconds.min(10)).await?;
    say("the hostile tenant takes what it may have");
    let mut attack = Attack::prepare(&stack, arguments.keys).await?;
    say(&format!("{} publishes; now it does what it can", attack.publishes()));
    attack.start(arguments.connections);
    let (reads, writes) = quiet.rest(arguments.seconds).await?;
    say("keys are revoked meanwhile");
    let revocations = quiet.revocations().await?;
    let control_mb = Memory::of(stack.control.pid())?.peak;
    let agent_mb = Memory::of(stack.agent.pid())?.peak;
    let (answers, publishes) = (attack.answers(), attack.publishes());
    drop(attack);
    say("the agent starts again from its disk, the control plane out of its reach");
    stack.agent.look_for_control_at(ports::local(ports::free()?));
    let began = Instant::now();
    stack.restart_agent().await?;
    let restart_ms = began.elapsed().as_secs_f64() * 1000.0;
    quiet.is_served(&stack).await?;
    Ok(Run {
        calm,
        reads,
        writes,
        revocations,
        control_mb,
        agent_mb,
        restart_ms,
        publishes,
        served: answers.served.load(Relaxed),
        refused: answers.refused.load(Relaxed),
        failed: answers.failed.load(Relaxed),
    })
}

fn figures(run: &Run) -> Vec<Figure> {
    let mut figures = Vec::new();
    for (name, times) in [
        ("another tenant's reads", &run.reads),
        ("another tenant's writes", &run.writes),
        ("revocation, commit to 401", &run.revocations),
        ("reads before the attack", &run.calm.0),
        ("writes before the attack", &run.calm.1),
    ] {
        for (label, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            let figure = Figure::new(format!("{name} {label}"), times.percentile(share), "ms");
            let held = label == "p99" && !name.ends_with("before the attack");
            figures.push(if held { figure.at_most(50.0) } else { figure });
        }
    }
    figures.push(Figure::new("control plane, peak memory", run.control_mb, "MB").at_most(256.0));
    figures.push(Figure::new("agent, peak memory", run.agent_mb, "MB"));
    figures.push(Figure::new("agent, start until ready", run.restart_ms, "ms").at_most(1000.0));
    figures.push(Figure::new("publishes of the hostile tenant", run.publishes as f64, ""));
    figures.push(Figure::new("its requests that were served", run.served as f64, ""));
    figures.push(Figure::new("its requests that were refused or cut", run.refused as f64, ""));
    figures
}
