//! Figures from rounds.

use std::collections::{BTreeMap, BTreeSet};

use super::rounds::{Cell, Memory, Round, Setting};
use super::{Door, Revoked, Soaked};
use crate::publish::Timings;
use crate::report::{Figure, Times};

/// What may be added to a call, in microseconds of Envoy's CPU.
const ADDED: f64 = 6.0;

/// The least share of the throughput without a policy, and the least multiple of ext_authz's.
const KEPT: f64 = 0.88;
const FASTER: f64 = 3.0;

/// Bytes of Envoy's memory for a key: 0.35 KB.
const BYTES: f64 = 350.0;

/// The figures of all settings.
pub fn figures(cells: &BTreeMap<(Setting, Door), Cell>) -> Vec<Figure> {
    let settings: BTreeSet<Setting> = cells.keys().map(|(setting, _)| *setting).collect();
    settings.iter().flat_map(|setting| of_setting(setting, cells)).collect()
}

fn of_setting(setting: &Setting, cells: &BTreeMap<(Setting, Door), Cell>) -> Vec<Figure> {
    let cell = |door| cells.get(&(*setting, door)).map(Vec::as_slice).unwrap_or_default();
    let median =
        |door, of: fn(&Round) -> f64| Times(cell(door).iter().map(of).collect()).percentile(0.5);
    // Of each round with its neighbour, so that what the machine does meanwhile meets both.
    let paired = |door, peer, of: fn(&Round, &Round) -> f64| {
        let pairs = cell(door).iter().zip(cell(peer));
        Times(pairs.map(|(own, other)| of(own, other)).collect()).percentile(0.5)
    };
    let mut figures = Vec::new();
    let own = |(at, _): &&(Setting, Door)| at == setting;
    let doors: Vec<Door> = cells.keys().filter(own).map(|(_, door)| *door).collect();
    for door in doors.iter().copied() {
        let name = |what: &str| format!("{}: {}, {what}", setting.name(), door.name());
        figures.push(Figure::new(name("CPU"), median(door, |it| it.cpu), "us"));
        if door != Door::None {
            let added = paired(door, Door::None, |own, none| own.cpu - none.cpu);
            let added = Figure::new(name("added CPU"), added, "us");
            figures.push(if door == Door::Module { added.at_most(ADDED) } else { added });
        }
        let rate = Figure::new(name("calls"), median(door, |it| it.rate), "1/s");
        let share = paired(door, Door::None, |own, none| own.rate / none.rate);
        figures.push(match door {
            Door::None => rate,
            Door::Module => rate.beside(&Door::None.name(), share).at_least(KEPT),
            _ => rate.beside(&Door::None.name(), share),
        });
        figures.push(Figure::new(name("p50"), median(door, |it| it.p50), "ms"));
        figures.push(Figure::new(name("p99"), median(door, |it| it.p99), "ms"));
    }
    if ![Door::Module, Door::ExtAuthz].iter().all(|door| doors.contains(door)) {
        return figures;
    }
    let faster = paired(Door::Module, Door::ExtAuthz, |own, other| own.rate / other.rate);
    let name = format!("{}: calls by the module, by ext_authz", setting.name());
    let faster = Figure::new(name, faster, "x");
    // Where the upstream takes most of the time, no policy at all is not so much faster either.
    figures.push(if setting.upstream { faster } else { faster.at_least(FASTER) });
    figures
}

/// What keys cost.
pub fn of_memory(memory: &Memory) -> Vec<Figure> {
    let Memory { keys, per_subscription, bytes, starts } = memory;
    let each =
        Figure::new(format!("{keys} keys, {per_subscription} of each subscription"), *bytes, "B");
    // A subscription is not a key.
    let each = if *per_subscription > 1 { each.at_most(BYTES) } else { each };
    vec![each, Figure::new(format!("{keys} keys: Envoy serves after"), *starts, "s")]
}

/// How long a revocation takes from the agent on.
pub fn of_revoked(keys: usize, revoked: &Revoked) -> Vec<Figure> {
    let name = |what: &str| format!("{keys} keys: agent's write to 401 on every worker, {what}");
    vec![
        Figure::new(name("p50"), revoked.refused.percentile(0.5), "ms"),
        Figure::new(name("p99"), revoked.refused.percentile(0.99), "ms").at_most(1.0),
        Figure::new(name("max"), revoked.refused.percentile(1.0), "ms"),
        Figure::new(
            format!("{keys} keys: agent's write to the module's word, p99"),
            revoked.applied.percentile(0.99),
            "ms",
        ),
    ]
}

/// How long one takes from REST on.
pub fn of_rest(timings: &Timings) -> Vec<Figure> {
    let name = |what: &str| format!("REST to 401 on every worker: {what}");
    vec![
        Figure::new(name("POST, p50"), timings.from_post.percentile(0.5), "ms"),
        Figure::new(name("POST, p99"), timings.from_post.percentile(0.99), "ms"),
        Figure::new(name("POST to answer, p50"), timings.to_commit.percentile(0.5), "ms"),
        Figure::new(name("commit (answer), p50"), timings.from_commit.percentile(0.5), "ms"),
        Figure::new(name("commit (answer), p99"), timings.from_commit.percentile(0.99), "ms")
            .at_most(10.0),
    ]
}

/// Growth of memory that is none: pages of the allocator's.
const FLAT: f64 = 1.02;

/// What was seen over minutes.
pub fn of_soak(soaked: &Soaked) -> Vec<Figure> {
    let Soaked { calls, counted, updates, seconds, memory } = soaked;
    // After a fifth of the time, every consumer has its count.
    let settled = memory.get(memory.len() / 5).copied().unwrap_or(f64::NAN);
    let last = memory.last().copied().unwrap_or(f64::NAN);
    let uncounted = calls.abs_diff(*counted) as f64;
    vec![
        Figure::new("soak: calls", *calls as f64, ""),
        Figure::new("soak: calls a second", *calls as f64 / seconds, "1/s"),
        Figure::new("soak: updates a second", *updates as f64 / seconds, "1/s"),
        Figure::new("soak: calls that were not counted, or too often", uncounted, "").at_most(0.0),
        Figure::new("soak: memory at the end", last, "MB")
            .beside("after a fifth of the time", last / settled)
            .at_most(FLAT),
    ]
}
