//! Rules about modules: what a module may name, and that a package's modules have no cycles.

use std::collections::{BTreeMap, BTreeSet};

use super::{File, rules, source};

/// What no module below a path may name, with exceptions.
struct Boundary {
    below: &'static [&'static str],
    names: &'static [&'static str],
    except: &'static [&'static str],
    why: &'static str,
}

const BOUNDARIES: &[Boundary] = &[
    Boundary {
        below: &[
            "control/src/flows",
            "control/src/compile",
            "control/src/operation",
            "control/src/admission",
            "control/src/entity",
            "control/src/refusal",
            "control/src/jobs",
        ],
        names: &["crate::rest", "crate::problem", "http", "axum"],
        except: &[],
        why: "flows and what they stand on know no HTTP",
    },
    Boundary {
        below: &["control/src/hub"],
        names: &["crate::rest", "crate::problem", "axum"],
        except: &[],
        why: "the agents' port and the REST API meet in the flows",
    },
    Boundary {
        below: &["control/src/hub"],
        names: &["http"],
        // gRPC's own headers and trailers.
        except: &[
            "control/src/hub/calls.rs",
            "control/src/hub/ending.rs",
            "control/src/hub/agent_auth.rs",
            "control/src/hub/history.rs",
        ],
        why: "only the transport of the agents' port knows HTTP",
    },
    Boundary {
        below: &["control/core/src"],
        names: &["sqlx", "axum", "tokio", "reqwest", "hyper", "tonic"],
        except: &[],
        why: "the product's rules do no I/O",
    },
    Boundary {
        below: &["control"],
        names: &["TenantScope::platform", "Operation::of_platform", "Operation::of_bootstrap"],
        except: &["control/src/operation.rs", "control/src/app.rs"],
        why: "only what runs without a caller sees all tenants",
    },
];

/// What a file names across a boundary.
pub(super) fn boundaries(file: &File) -> Vec<String> {
    if !rules::is_code(&file.path) {
        return vec![];
    }
    let paths = named(file);
    let crossed = |boundary: &&Boundary| {
        boundary.below.iter().any(|below| is_below(&file.path, below))
            && !boundary.except.contains(&file.path.as_str())
    };
    let mut faults = BTreeSet::new();
    for boundary in BOUNDARIES.iter().filter(crossed) {
        for name in boundary.names {
            // An item by its last two segments, wherever it is from.
            let is_item = name.starts_with(char::is_uppercase);
            let found = paths.iter().any(|path| match is_item {
                true => path.ends_with(name),
                false => path == name || path.starts_with(&format!("{name}::")),
            });
            if found {
                faults.insert(format!("{}: names {name}: {}", file.path, boundary.why));
            }
        }
    }
    faults.into_iter().collect()
}

/// What opens its own transactions, and therefore writes its own audit rows.
const WRITERS: [&str; 4] = [
    "control/src/operation/transaction",
    "control/src/hub/report_writer/batch",
    // When jobs are due and how they ended: the queue itself.
    "control/src/jobs/worker",
    // The library itself.
    "control/store/src",
];

/// Writes go through an operation's transaction, which commits only with an audit row.
pub(super) fn transactions(file: &File) -> Vec<String> {
    let is_ours = file.path.starts_with("control/") && rules::is_code(&file.path);
    if !is_ours || WRITERS.iter().any(|writer| is_below(&file.path, writer)) {
        return vec![];
    }
    let code = String::from_utf8_lossy(&product(file)).into_owned();
    let opens = ["store.begin()", ".begin_unsynced()"];
    let opened = opens.iter().filter(|open| code.contains(**open));
    opened.map(|open| format!("{}: {open} instead of Transaction::begin", file.path)).collect()
}

/// The code without comments, literals and tests.
fn product(file: &File) -> Vec<u8> {
    let mut code = source::blanked(&file.text);
    for test in source::test_modules(&code) {
        code[test].fill(b' ');
    }
    code
}

/// `a/b` contains `a/b.rs`, `a/b/c.rs` and nothing else.
fn is_below(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}

/// Packages whose modules have no cycles.
pub(super) const PACKAGES: [&str; 10] = [
    "control/src",
    "control/core/src",
    "control/store/src",
    "agent/src",
    "agent/translate/src",
    "agent/enforce/src",
    "agent/module/src",
    "proto/src",
    "proto/grammar/src",
    "xds/src",
];

/// Remaining cycles. The list only shrinks: an obsolete entry is a fault.
pub(super) const LEFT: &[(&str, &[&str])] = &[];

/// Cycles among the top-level modules of the packages, except remaining ones.
pub(super) fn circles(files: &[File], packages: &[&str], left: &[(&str, &[&str])]) -> Vec<String> {
    let mut faults = Vec::new();
    for package in packages {
        let uses = graph(files, package);
        let found = components(&uses);
        for circle in &found {
            let known = left.iter().any(|(of, names)| of == package && circle.iter().eq(*names));
            if !known {
                faults.push(format!("{package}: a circle of modules: {}", told(&uses, circle)));
            }
        }
        for (_, names) in left.iter().filter(|(of, _)| of == package) {
            if !found.iter().any(|circle| circle.iter().eq(*names)) {
                faults.push(format!("{package}: no circle of {} is left", names.join(", ")));
            }
        }
    }
    faults
}

/// Module -> the modules that it names, each with a file that does.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

fn graph(files: &[File], package: &str) -> Graph {
    let inside =
        |file: &&File| rules::is_code(&file.path) && file.path.starts_with(&format!("{package}/"));
    let module =
        |file: &File| file.path[package.len() + 1..].split(['/', '.']).next().map(str::to_owned);
    let mut uses = Graph::new();
    for file in files.iter().filter(inside) {
        let name = module(file).filter(|name| !["lib", "main", "bin"].contains(&name.as_str()));
        uses.extend(name.map(|name| (name, BTreeMap::new())));
    }
    let modules: BTreeSet<String> = uses.keys().cloned().collect();
    for file in files.iter().filter(inside) {
        let Some(from) = module(file).filter(|name| modules.contains(name)) else { continue };
        for path in named(file) {
            let to = path.strip_prefix("crate::").and_then(|rest| rest.split("::").next());
            if let Some(to) = to.filter(|to| modules.contains(*to) && **to != from) {
                let named = uses.entry(from.clone()).or_default();
                named.entry(to.to_owned()).or_insert_with(|| file.path.clone());
            }
        }
    }
    uses
}

/// Sets of modules that all reach each other.
fn components(uses: &Graph) -> BTreeSet<BTreeSet<String>> {
    let reached = |from: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(module) = next.pop() {
            for to in uses.get(&module).into_iter().flat_map(|named| named.keys()) {
                if seen.insert(to.clone()) {
                    next.push(to.clone());
                }
            }
        }
        seen
    };
    let all: BTreeMap<&String, BTreeSet<String>> =
        uses.keys().map(|module| (module, reached(module))).collect();
    let circle = |module: &String| -> BTreeSet<String> {
        let back = |other: &&String| all.get(*other).is_some_and(|seen| seen.contains(module));
        all.get(module).into_iter().flatten().filter(back).cloned().collect()
    };
    uses.keys().map(circle).filter(|circle| !circle.is_empty()).collect()
}

fn told(uses: &Graph, circle: &BTreeSet<String>) -> String {
    let mut edges = Vec::new();
    for from in circle {
        for (to, file) in uses.get(from).into_iter().flatten() {
            if circle.contains(to) {
                edges.push(format!("{from} -> {to} ({file})"));
            }
        }
    }
    edges.join(", ")
}

/// Every path in a file's code except tests; `super` is resolved.
fn named(file: &File) -> BTreeSet<String> {
    let code = product(file);
    let depth = file.path.split_once("/src/").map_or(0, |(_, rest)| rest.split('/').count());
    let mut paths = BTreeSet::new();
    for path in source::paths(&code) {
        let above = path.matches("super::").count();
        let rest = path.trim_start_matches("super::");
        paths.insert(if above > 0 && above == depth { format!("crate::{rest}") } else { path });
    }
    paths
}
