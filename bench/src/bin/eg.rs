//! The benchmark `eg`; `bench/README.md` says how to read it. It runs inside `deploy/kube/stack.py run`.

use anyhow::{Result, ensure};
use clap::Parser;
use imp_bench::eg::{Part, Plan, figures, measure};
use imp_bench::report::{Machine, Report, write_samples};
use imp_bench::stack::envoy_binary;

/// Envoy Gateway and we on one Gateway, with the same Envoy and the same backend.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// What is measured.
    #[arg(long, value_delimiter = ',', default_value = "hosts,paths,keys,crd")]
    parts: Vec<Part>,
    /// Routes of each side that are there before, from few to many.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,3000")]
    sizes: Vec<usize>,
    /// Changes of theirs that are timed at each size.
    #[arg(long, default_value_t = 30)]
    theirs: usize,
    /// Changes of ours that are timed at each size.
    #[arg(long, default_value_t = 60)]
    ours: usize,
    /// Objects of each side that are added, edited and deleted under load.
    #[arg(long, default_value_t = 40)]
    churned: usize,
    /// Changes of others beside a bad value.
    #[arg(long, default_value_t = 20)]
    others: usize,
    /// Routes that ask for a key.
    #[arg(long, default_value_t = 500)]
    keyed: usize,
    /// Keys.
    #[arg(long, default_value_t = 2_000)]
    keys: usize,
    /// Keys of theirs that are added, and of ours three times as many.
    #[arg(long, default_value_t = 10)]
    added_keys: usize,
    /// Publishes by Gateway API that are there before.
    #[arg(long, default_value_t = 1_000)]
    crd: usize,
    /// Those that are timed.
    #[arg(long, default_value_t = 40)]
    crd_timed: usize,
}

impl Arguments {
    fn plan(&self) -> Plan {
        let mut sizes = self.sizes.clone();
        sizes.sort_unstable();
        Plan {
            parts: self.parts.clone(),
            sizes,
            theirs: self.theirs,
            ours: self.ours,
            churned: self.churned,
            others: self.others,
            keyed: self.keyed,
            keys: self.keys,
            added_keys: self.added_keys,
            crd: self.crd,
            crd_timed: self.crd_timed,
        }
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    imp_bench::install_crypto();
    let arguments = Arguments::parse();
    let plan = arguments.plan();
    let numbers = [plan.theirs, plan.ours, plan.churned, plan.others, plan.keyed, plan.keys];
    let all =
        plan.sizes.iter().chain(&numbers).chain([&plan.added_keys, &plan.crd, &plan.crd_timed]);
    ensure!(!plan.sizes.is_empty() && all.into_iter().all(|it| *it > 0), "nothing to do");
    let machine = Machine::here(&envoy_binary()?);
    let measured = measure(&plan, say).await?;
    let report = Report::new(machine, figures(&measured));
    say(&format!("\n{}", report.table()));
    write_samples("eg", &serde_json::json!({ "unit": "ms", "measured": measured }))?;
    say(&format!("written: {}", report.write("eg")?.display()));
    let faults = measured.faults();
    ensure!(faults.is_empty(), "wrong answers of ours: {faults:#?}");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the output of a benchmark")]
fn say(text: &str) {
    println!("{text}");
}
