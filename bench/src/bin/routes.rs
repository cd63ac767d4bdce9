//! The benchmark `routes`; `bench/README.md` says how to read it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use imp_bench::edge::Connection;
use imp_bench::report::{Figure, Machine, Report, Times, write_samples};
use imp_bench::routes::{Operation, host_of, many, service};
use imp_bench::sample::Provider;
use imp_bench::stack::{Options, PATIENCE, Stack, envoy_binary};

/// How long a publish of many routes takes to serve, and how much dearer a call through it is.
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// Routes of the large publish.
    #[arg(long, default_value_t = 2_000)]
    routes: usize,
    /// Routes of the small one.
    #[arg(long, default_value_t = 10)]
    few: usize,
    /// How often the large one is published, each time on a host of its own.
    #[arg(long, default_value_t = 11)]
    publishes: usize,
    /// Calls of each kind.
    #[arg(long, default_value_t = 3_000)]
    calls: usize,
}

/// Routes of each part of the order that are called in turns.
const CALLED: usize = 25;

/// Between two polls of a publish that is not served yet.
const PERIOD: Duration = Duration::from_micros(200);

/// Places in the order of routes, under one host.
struct Subject {
    name: &'static str,
    host: String,
    places: Vec<usize>,
    times: Times,
}

/// From the POST on.
#[derive(Debug, Default, serde::Serialize)]
struct Served {
    /// Until the answer to the POST.
    to_answer: Times,
    /// Until the last route of the order answers.
    to_serve: Times,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    imp_bench::install_crypto();
    ensure!(arguments.few > 0 && arguments.few <= arguments.routes, "few <= routes");
    let machine = Machine::here(&envoy_binary()?);
    let operations = many(arguments.routes)?;
    let stack = Stack::start(Options::asking()).await?;
    let provider = Provider::create(&stack, "bench").await?;

    let step = arguments.routes / arguments.few;
    let few: Vec<_> = (0..arguments.few).map(|n| n * step + step / 2).collect();
    let chosen = few.iter().filter_map(|place| Some((*place, operations.get(*place)?)));
    let small = product(&stack, &provider, "small", chosen).await?;
    let publish = provider.publish(&small, "small.bench.example", "none").await?;
    stack.publish_reaches(&publish, "active", PATIENCE).await?;

    let large = product(&stack, &provider, "large", operations.iter().enumerate()).await?;
    let last = operations.last().context("no routes")?;
    let mut served = Served::default();
    for index in 0..arguments.publishes.max(1) {
        publish_to_serve(&provider, &large, &host(index), last, &mut served).await?;
    }

    let mut subjects = subjects(operations.len(), few);
    call(&provider, &operations, &mut subjects, arguments.calls).await?;
    let report = Report::new(machine, figures(&arguments, &served, &subjects));
    say(&format!("\n{}", report.table()));
    let calls: Vec<_> = subjects.iter().map(|it| (it.name, &it.times)).collect();
    write_samples(
        "routes",
        &serde_json::json!({ "unit": "ms", "served": served, "calls": calls }),
    )?;
    say(&format!("written: {}", report.write("routes")?.display()));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the output of a benchmark")]
fn say(text: &str) {
    println!("{text}");
}

fn host(index: usize) -> String {
    format!("large-{index}.bench.example")
}

async fn product<'a>(
    stack: &Stack,
    provider: &Provider,
    name: &str,
    operations: impl IntoIterator<Item = (usize, &'a Operation)>,
) -> Result<String> {
    let service = provider.service(&service(stack, name, operations)).await?;
    provider.product(name, &[service]).await
}

/// Publishes once, and polls from the answer on.
async fn publish_to_serve(
    provider: &Provider,
    product: &str,
    host: &str,
    route: &Operation,
    served: &mut Served,
) -> Result<()> {
    let mut caller = Connection::open(provider.address()).await?;
    let sent = Instant::now();
    provider.publish(product, host, "none").await?;
    served.to_answer.0.push(milliseconds(sent.elapsed()));
    loop {
        let answer = caller.send_raw(&request(route, host)).await?;
        if answer.status == 200 {
            served.to_serve.0.push(milliseconds(sent.elapsed()));
            return Ok(());
        }
        ensure!(answer.status == 404, "a wrong answer while publishing: {}", answer.status);
        ensure!(sent.elapsed() < PATIENCE, "not served after {PATIENCE:?}");
        tokio::time::sleep(PERIOD).await;
    }
}

/// The small publish, and three parts of the large one's order.
fn subjects(routes: usize, few: Vec<usize>) -> Vec<Subject> {
    let part = |from: usize| (from..from + CALLED.min(routes)).collect();
    let subject = |name, host: &str, places| Subject {
        name,
        host: host.to_owned(),
        places,
        times: Times::default(),
    };
    let large = host(0);
    vec![
        subject("few", "small.bench.example", few),
        subject("early", &large, part(0)),
        subject("middle", &large, part(routes.saturating_sub(CALLED) / 2)),
        subject("late", &large, part(routes.saturating_sub(CALLED))),
        subject("any", &large, (0..routes).collect()),
    ]
}

/// Calls of all subjects in turns, on one connection.
async fn call(
    provider: &Provider,
    operations: &[Operation],
    subjects: &mut [Subject],
    calls: usize,
) -> Result<()> {
    const WARM: usize = 200;
    // Coprime to the number of routes: every turn meets another part of the order.
    const STRIDE: usize = 619;
    let mut caller = Connection::open(provider.address()).await?;
    for turn in 0..WARM + calls {
        for subject in &mut *subjects {
            let place = subject.places.get(turn * STRIDE % subject.places.len().max(1));
            let place = *place.context("no routes")?;
            let route = operations.get(place).context("no such route")?;
            let request = request(route, &subject.host);
            let sent = Instant::now();
            let answer = caller.send_again(&request).await?;
            let took = milliseconds(sent.elapsed());
            let seen = answer.json()["headers"]["host"].clone();
            ensure!(answer.status == 200 && seen == host_of(place), "{}: {seen}", route.path);
            if turn >= WARM {
                subject.times.0.push(took);
            }
        }
    }
    Ok(())
}

fn request(route: &Operation, host: &str) -> Vec<u8> {
    let (method, path) = (route.method(), route.call());
    format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

fn figures(arguments: &Arguments, served: &Served, subjects: &[Subject]) -> Vec<Figure> {
    let routes = arguments.routes;
    let Served { to_answer, to_serve } = served;
    let mut figures = vec![
        Figure::new(format!("POST to serve, {routes} routes, p50"), to_serve.percentile(0.5), "ms")
            .at_most(500.0),
        Figure::new("POST to serve, max", to_serve.percentile(1.0), "ms"),
        Figure::new("POST to answer, p50", to_answer.percentile(0.5), "ms"),
    ];
    let p50 = |subject: &Subject| subject.times.percentile(0.5);
    let few = subjects.first().map_or(f64::NAN, p50);
    for subject in subjects {
        let Subject { name, times, .. } = subject;
        let peer = format!("{} routes", arguments.few);
        let figure = Figure::new(format!("call, {name}, p50"), p50(subject), "ms");
        figures.push(match *name {
            "few" => figure,
            _ => figure.beside(&peer, p50(subject) / few).at_most(1.2),
        });
        figures.push(Figure::new(format!("call, {name}, p99"), times.percentile(0.99), "ms"));
    }
    figures
}
