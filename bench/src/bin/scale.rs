//! The benchmark `scale`; `bench/README.md` says how to read it.

use anyhow::{Result, ensure};
use clap::Parser;
use imp_bench::report::{Figure, Machine, Report, write_samples};
use imp_bench::scale::{Contents, Measured, Plan, accepted, figures, growth, measure};
use imp_bench::stack::envoy_binary;

/// How cost and memory grow with the number of publishes.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Numbers of publishes, each with a stack of its own.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,50000")]
    sizes: Vec<usize>,
    /// What publishes hold: so many products, each on many hosts, or `all` different.
    #[arg(long, value_delimiter = ',', default_value = "100,all")]
    contents: Vec<Contents>,
    /// The agent's layouts, each measured in turn [default: the agent's own]. Those with one table
    /// per gateway serve one gateway per port only, and here many share a port.
    #[arg(long, value_delimiter = ',')]
    layout: Vec<String>,
    /// Envoys on the same port.
    #[arg(long, default_value_t = 1)]
    envoys: u32,
    /// Worker threads of each Envoy.
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// Publishes that are timed one after another, at most a fifth of the size.
    #[arg(long, default_value_t = 300)]
    timed: usize,
    /// Publishes that are loaded with Envoys connected, at most half of the size.
    #[arg(long, default_value_t = 2_000)]
    live: usize,
    /// Publishes of the service that is edited, at most half of the size.
    #[arg(long, default_value_t = 500)]
    edited: usize,
    /// Calls per second during the burst.
    #[arg(long, default_value_t = 500)]
    calls: u32,
    /// Only load control planes without an Envoy, on SQLite unless `--postgres` is given.
    #[arg(long)]
    accepted: bool,
    /// Also load a control plane on PostgreSQL, with at most 10,000 publishes.
    #[cfg(feature = "postgres")]
    #[arg(long)]
    postgres: bool,
}

/// The layout with one table per gateway.
const WHOLE_RDS: &str = "whole-rds";

/// Keys that are revoked during the burst, at most.
const KEYS: usize = 300;

/// Publishes that are made one at a time during the burst, at most.
const LONE: usize = 100;

/// Publishes on PostgreSQL, at most.
#[cfg(feature = "postgres")]
const ON_POSTGRES: usize = 10_000;

impl Arguments {
    fn plan(&self, layout: Option<&String>, contents: Contents, publishes: usize) -> Plan {
        Plan {
            contents,
            publishes,
            envoys: self.envoys,
            workers: self.workers,
            layout: layout.cloned(),
            timed: self.timed.min(publishes.div_ceil(5)),
            live: self.live.min(publishes.div_ceil(2)),
            edited: self.edited.min(publishes.div_ceil(2)),
            keys: KEYS,
            lone: LONE,
            calls: self.calls,
        }
    }

    /// Each layout with each contents, from the smallest size to the largest.
    fn plans(&self) -> Vec<Plan> {
        let mut sizes = self.sizes.clone();
        sizes.sort_unstable();
        let layouts: Vec<_> = match &*self.layout {
            [] => vec![None],
            some => some.iter().map(Some).collect(),
        };
        let kinds = layouts.iter().flat_map(|layout| self.contents.iter().map(|it| (*layout, *it)));
        let with_sizes = |(layout, contents): (Option<&String>, Contents)| {
            let plan = |size: &usize| self.plan(layout, contents, *size);
            sizes.iter().map(plan).collect::<Vec<_>>()
        };
        kinds.flat_map(with_sizes).collect()
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    imp_bench::install_crypto();
    ensure!(arguments.sizes.iter().all(|&size| size > 0) && arguments.envoys > 0, "nothing to do");
    ensure!(
        !arguments.layout.iter().any(|it| it == WHOLE_RDS),
        "{WHOLE_RDS}: one gateway per port"
    );
    let machine = Machine::here(&envoy_binary()?);
    if arguments.accepted {
        let figures = match postgres(&arguments).await? {
            none if none.is_empty() => sqlite(&arguments).await?,
            figures => figures,
        };
        say(&Report::new(machine, figures).table());
        return Ok(());
    }
    let mut runs: Vec<Measured> = Vec::new();
    for plan in arguments.plans() {
        let layout = plan.layout.as_deref().unwrap_or("the agent's layout");
        let what = format!("{layout}, {}, {}", plan.contents.words(), plan.publishes);
        runs.push(measure(&plan, |step| say(&format!("{what}: {step}"))).await?);
    }
    let mut all: Vec<Figure> = runs.iter().flat_map(figures).chain(growth(&runs)).collect();
    all.extend(postgres(&arguments).await?);
    let report = Report::new(machine, all);
    say(&format!("\n{}", report.table()));
    write_samples("scale", &serde_json::json!({ "unit": "ms", "runs": runs }))?;
    say(&format!("written: {}", report.write("scale")?.display()));
    let faults: Vec<_> = runs.iter().flat_map(Measured::faults).collect();
    ensure!(faults.is_empty(), "wrong answers: {faults:#?}");
    Ok(())
}

/// How fast a control plane on SQLite accepts publishes.
async fn sqlite(arguments: &Arguments) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for plan in arguments.plans() {
        say(&format!("SQLite, {}, {}: loading", plan.contents.words(), plan.publishes));
        let accepted = accepted(&plan, None).await?;
        figures.extend(accepted.figures(&plan, "SQLite", 1_000.0));
    }
    Ok(figures)
}

#[cfg(feature = "postgres")]
async fn postgres(arguments: &Arguments) -> Result<Vec<Figure>> {
    use imp_store::testing::{Database, Kind};

    let largest = arguments.sizes.iter().copied().max().unwrap_or_default().min(ON_POSTGRES);
    let mut figures = Vec::new();
    for contents in arguments.contents.iter().filter(|_| arguments.postgres) {
        let words = contents.words();
        say(&format!("PostgreSQL, {words}, {largest}: loading"));
        let database = Database::fresh(Kind::Postgres).await?;
        let plan = arguments.plan(None, *contents, largest);
        let accepted = accepted(&plan, Some(database.url())).await?;
        figures.extend(accepted.figures(&plan, "PostgreSQL", 800.0));
    }
    Ok(figures)
}

#[cfg(not(feature = "postgres"))]
async fn postgres(_: &Arguments) -> Result<Vec<Figure>> {
    Ok(vec![])
}

#[expect(clippy::print_stdout, reason = "the output of a benchmark")]
fn say(text: &str) {
    println!("{text}");
}
