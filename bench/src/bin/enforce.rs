//! The benchmark `enforce` and its soak; `bench/README.md` says how to read them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use clap::{Parser, Subcommand};
use imp_bench::enforce::figures::{figures, of_memory, of_rest, of_revoked, of_soak};
use imp_bench::enforce::{self, Contents, Door, Plan, Protocol, Setting, Soak};
use imp_bench::report::{Figure, Machine, Report, write_samples};
use imp_bench::stack::{envoy_binary, program};

/// What a decision about a call costs Envoy: the module, ext_authz, api_key_auth, and none.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Numbers of keys. The first is called in all ways, the others in the first way.
    #[arg(long, value_delimiter = ',', default_value = "100000,1000,1000000")]
    keys: Vec<usize>,
    /// Keys of each subscription.
    #[arg(long, default_value_t = 5)]
    per_subscription: usize,
    /// Limits of the plan: 0, 1 (a rate) or 2 (and a quota).
    #[arg(long, default_value_t = 1)]
    limits: usize,
    /// How often the Envoys are started.
    #[arg(long, default_value_t = 6)]
    starts: usize,
    /// Rounds of each door in each way after each start.
    #[arg(long, default_value_t = 4)]
    rounds: usize,
    /// Seconds of a round: short, so that whatever else the machine does meets all doors alike.
    #[arg(long, default_value_t = 0.4)]
    seconds: f64,
    /// Connections that call at once.
    #[arg(long, default_value_t = 8)]
    callers: usize,
    /// Keys that are revoked, one after another.
    #[arg(long, default_value_t = 300)]
    revocations: usize,
    /// The module; otherwise the one that was built beside this program.
    #[arg(long)]
    module: Option<PathBuf>,
    /// Other libraries, each beside the module in its own Envoy: a former build, or less of a module.
    #[arg(long, value_delimiter = ',')]
    beside: Vec<PathBuf>,
    /// Doors, besides these libraries: none, module, ext-authz, api-key-auth.
    #[arg(long, value_delimiter = ',', default_value = "none,module,ext-authz,api-key-auth")]
    doors: Vec<String>,
    /// Parts to run.
    #[arg(long, value_delimiter = ',', default_value = "calls,memory,revoke,rest")]
    parts: Vec<String>,
    /// Ways of calls; those beside the first are run with the first number of keys only.
    #[arg(long, value_delimiter = ',', default_value = "direct,upstream,http2,tls")]
    ways: Vec<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Calls without a pause while keys come and go.
    Soak {
        /// How long.
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
        /// Changes a second.
        #[arg(long, default_value_t = 5_000)]
        updates: u64,
        /// Keys that call.
        #[arg(long, default_value_t = 10_000)]
        calling: usize,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    imp_bench::install_crypto();
    let machine = Machine::here(&envoy_binary()?);
    let (name, figures) = match arguments.command {
        None => ("enforce", measure(&arguments).await?),
        Some(Command::Soak { minutes, updates, calling }) => {
            ("enforce-soak", soak(&arguments, minutes, updates, calling).await?)
        }
    };
    let report = Report::new(machine, figures);
    say(&format!("\n{}", report.table()));
    say(&format!("written: {}", report.write(name)?.display()));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the output of a benchmark")]
fn say(text: &str) {
    println!("{text}");
}

impl Arguments {
    fn module(&self) -> Result<PathBuf> {
        self.module.clone().map_or_else(|| program("libimp_module.so"), Ok)
    }

    fn contents(&self, keys: usize) -> Contents {
        Contents { keys, per_subscription: self.per_subscription, limits: self.limits }
    }

    fn has(&self, part: &str) -> bool {
        self.parts.iter().any(|it| it == part)
    }

    /// In the order of their turns.
    fn doors(&self) -> Result<Vec<Door>> {
        let door = |name: &String| match name.as_str() {
            "none" => Ok(Door::None),
            "module" => Ok(Door::Module),
            "ext-authz" => Ok(Door::ExtAuthz),
            "api-key-auth" => Ok(Door::ApiKeyAuth),
            other => bail!("--doors: {other}"),
        };
        let beside = (1..).take(self.beside.len()).map(|number| Ok(Door::Beside(number)));
        self.doors.iter().map(door).chain(beside).collect()
    }

    /// Protocols, and whether through the upstream.
    fn ways(&self, first: bool) -> Result<Vec<(Protocol, bool)>> {
        let way = |name: &String| match name.as_str() {
            "direct" => Ok((Protocol::Http1, false)),
            "upstream" => Ok((Protocol::Http1, true)),
            "http2" => Ok((Protocol::Http2, false)),
            "tls" => Ok((Protocol::Tls, false)),
            other => bail!("--ways: {other}"),
        };
        self.ways.iter().take(if first { self.ways.len() } else { 1 }).map(way).collect()
    }
}

async fn measure(arguments: &Arguments) -> Result<Vec<Figure>> {
    let library = arguments.module()?;
    let mut cells: BTreeMap<(Setting, Door), enforce::Cell> = BTreeMap::new();
    let mut others = Vec::new();
    for (place, keys) in arguments.keys.iter().enumerate() {
        let plan = Plan {
            contents: arguments.contents(*keys),
            doors: arguments.doors()?,
            beside: arguments.beside.clone(),
            starts: arguments.starts.max(1),
            rounds: arguments.rounds,
            lasts: Duration::from_secs_f64(arguments.seconds),
            callers: arguments.callers,
            ways: arguments.ways(place == 0)?,
        };
        if arguments.has("calls") {
            cells.extend(enforce::run(&library, &plan, say).await?);
        }
    }
    let most = arguments.contents(arguments.keys.iter().copied().max().unwrap_or(1));
    if arguments.has("memory") {
        for per_subscription in [arguments.per_subscription, 1] {
            let contents = Contents { per_subscription, ..most };
            others.extend(of_memory(&enforce::memory(&library, &contents).await?));
        }
    }
    if arguments.has("revoke") {
        let revoked = enforce::revoke(&library, &most, arguments.revocations).await?;
        others.extend(of_revoked(most.keys, &revoked));
        write_samples("enforce-revoke", &revoked)?;
    }
    if arguments.has("rest") {
        let timings = enforce::from_rest(&library, arguments.revocations).await?;
        others.extend(of_rest(&timings));
    }
    let samples: Vec<_> = cells.iter().map(|((at, door), cell)| (at, door, cell)).collect();
    write_samples("enforce", &samples)?;
    Ok(figures(&cells).into_iter().chain(others).collect())
}

async fn soak(
    arguments: &Arguments,
    minutes: f64,
    updates: u64,
    calling: usize,
) -> Result<Vec<Figure>> {
    let plan = Soak {
        contents: arguments.contents(calling),
        lasts: Duration::from_secs_f64(minutes * 60.0),
        callers: arguments.callers.max(32),
        updates,
    };
    let soaked = enforce::soak(&arguments.module()?, &plan, say).await?;
    write_samples("enforce-soak", &soaked)?;
    ensure!(soaked.counted == soaked.calls, "{} calls, {} counted", soaked.calls, soaked.counted);
    Ok(of_soak(&soaked))
}
