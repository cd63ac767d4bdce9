//! The figures and their targets.

use super::Measured;
use super::changes::Block;
use super::churn::Wrong;
use super::crd::Crd;
use super::growth::{Size, Sizes};
use super::keys::Keys;
use crate::report::Figure;

/// Targets about one size are judged there only.
const JUDGED: usize = 3_000;
const JUDGED_CRD: usize = 1_000;

/// All of them.
pub fn figures(measured: &Measured) -> Vec<Figure> {
    let mut all: Vec<_> = measured.shapes.iter().flat_map(of_shape).collect();
    all.extend(measured.keys.iter().flat_map(of_keys));
    all.extend(measured.crd.iter().flat_map(of_crd));
    all
}

fn of_shape(sizes: &Sizes) -> Vec<Figure> {
    let words = sizes.shape.words();
    let of_size = |size: &Size| of_size(&format!("{words}, {}", size.existing), size);
    let mut all: Vec<_> = sizes.sizes.iter().flat_map(of_size).collect();
    let name = |what: &str| format!("{words}: {what}");
    all.extend(wrong(&name("theirs"), &sizes.churn.theirs));
    let [refused, changing, elsewhere] = wrong(&name("ours"), &sizes.churn.ours);
    all.extend([refused, changing.at_most(0.0), elsewhere.at_most(0.0)]);
    let bad = &sizes.bad;
    let others = |what: &str| name(&format!("{what} of {} others beside a bad value", bad.others));
    all.push(Figure::new(others("theirs, not served"), bad.theirs_hurt as f64, "routes"));
    all.push(Figure::new(others("ours, not served"), bad.ours_hurt as f64, "routes").at_most(0.0));
    all.push(Figure::new(
        name("REST answers the bad value"),
        f64::from(bad.refused_with),
        "status",
    ));
    all
}

fn wrong(name: &str, wrong: &Wrong) -> [Figure; 3] {
    [
        Figure::new(format!("{name}, refused while they go"), wrong.refused as f64, "calls"),
        Figure::new(format!("{name}, wrong while they change"), wrong.changing as f64, "calls"),
        Figure::new(format!("{name}, wrong elsewhere"), wrong.steady as f64, "calls"),
    ]
}

fn of_size(name: &str, size: &Size) -> Vec<Figure> {
    let is_judged = size.existing == JUDGED;
    let mut all = Vec::new();
    let (theirs, ours) = (&size.theirs.added, &size.ours.added);
    all.extend(times(name, "add", theirs, ours, is_judged.then_some(40.0)));
    all.extend(costs(name, "add", theirs, ours, is_judged.then_some((1.0 / 200.0, 1.0 / 500.0))));
    let (theirs, ours) = (&size.theirs.removed, &size.ours.removed);
    all.extend(times(name, "remove", theirs, ours, None));
    all.extend(costs(name, "remove", theirs, ours, None));
    if let Some(new) = &size.new_hosts {
        let figure = |share, what| {
            let name = format!("{name}: ours at a new host, {what}");
            Figure::new(name, new.seen.percentile(share), "ms")
        };
        all.extend([figure(0.5, "p50"), figure(1.0, "max")]);
    }
    let whose = ["Envoy Gateway", "control plane", "agent", "Envoy"];
    for (who, resident) in whose.into_iter().zip(size.memory) {
        all.push(Figure::new(format!("{name}: RSS of {who}"), resident, "MB"));
    }
    all
}

/// How often theirs takes as long as ours.
fn times(name: &str, what: &str, theirs: &Block, ours: &Block, target: Option<f64>) -> Vec<Figure> {
    let mut all = Vec::new();
    for (word, share) in [("p50", 0.5), ("p99", 0.99)] {
        let (slow, fast) = (theirs.seen.percentile(share), ours.seen.percentile(share));
        all.push(Figure::new(format!("{name}: theirs, {what}, {word}"), slow, "ms"));
        let figure = Figure::new(format!("{name}: ours, {what}, {word}, theirs by it"), fast, "ms");
        let figure = figure.beside("theirs", slow / fast);
        all.push(match target.filter(|_| word == "p50") {
            Some(target) => figure.at_least(target),
            None => figure,
        });
    }
    all
}

/// Ours as a share of theirs.
fn costs(
    name: &str,
    what: &str,
    theirs: &Block,
    ours: &Block,
    targets: Option<(f64, f64)>,
) -> Vec<Figure> {
    let of = |word: &str, unit, theirs: f64, ours: f64, target: Option<f64>| {
        let figure = Figure::new(format!("{name}: ours, {what}, {word}"), ours, unit);
        let figure = figure.beside("theirs", ours / theirs);
        let judged = match target {
            Some(target) => figure.at_most(target),
            None => figure,
        };
        [Figure::new(format!("{name}: theirs, {what}, {word}"), theirs, unit), judged]
    };
    let (cpu, bytes) = targets.unzip();
    let cpu = of("CPU", "ms", theirs.cpu, ours.cpu, cpu);
    let bytes = of("bytes to Envoy", "B", theirs.bytes, ours.bytes, bytes);
    cpu.into_iter().chain(bytes).collect()
}

fn of_keys(keys: &Keys) -> Vec<Figure> {
    let name = format!("a key more at {} routes x {} keys", keys.routes, keys.keys);
    let mut all = times(&name, "add", &keys.theirs, &keys.ours, None);
    all.extend(costs(&name, "add", &keys.theirs, &keys.ours, Some((1.0, 1.0 / 1_000.0))));
    all
}

fn of_crd(crd: &Crd) -> Vec<Figure> {
    let name = |what: &str| format!("by Gateway API, {}: {what}", crd.existing);
    let [ours, own] =
        [&crd.publish, &crd.applied].map(|block| [0.5, 0.99].map(|it| block.seen.percentile(it)));
    let is_judged = crd.existing == JUDGED_CRD;
    let judged = |figure: Figure, limit| if is_judged { figure.at_most(limit) } else { figure };
    vec![
        judged(Figure::new(name("POST to serve, p50"), ours[0], "ms"), 250.0),
        Figure::new(name("POST to serve, p99"), ours[1], "ms"),
        Figure::new(name("POST to answer, p50"), crd.publish.answered.percentile(0.5), "ms"),
        Figure::new(name("the same objects applied, p50"), own[0], "ms"),
        Figure::new(name("the same objects applied, p99"), own[1], "ms"),
        judged(Figure::new(name("we add, p50"), ours[0] - own[0], "ms"), 20.0),
    ]
}
