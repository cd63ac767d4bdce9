//! The modules of this package have no cyclic dependencies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use regex::Regex;

type Edges = BTreeMap<String, BTreeSet<String>>;

/// Each module's text, without comments and unit tests.
fn sources(folder: &Path, within: &str, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy();
        let name = if stem == "lib" { String::new() } else { format!("{within}{stem}") };
        if path.is_dir() {
            sources(&path, &format!("{name}::"), found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let product = text.split("#[cfg(test)]").next().unwrap_or_default();
            let code = product.lines().map(|line| line.split("//").next().unwrap_or_default());
            found.insert(name, code.collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Splits `a::{b, c::{d}}` into `a::b` and `a::c::d`.
fn flat(path: &str, found: &mut Vec<String>) {
    let Some((before, list)) = path.split_once('{') else {
        return found.push(path.trim().trim_end_matches("::self").to_owned());
    };
    let list = list.trim().strip_suffix('}').unwrap_or(list);
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let item = list.get(begin..at).unwrap_or_default().trim();
                if !item.is_empty() {
                    flat(&format!("{}{item}", before.trim()), found);
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
}

/// The innermost module on a path that is used in `module`.
fn target(module: &str, path: &str, known: &BTreeMap<String, String>) -> Option<String> {
    let mut at: Vec<&str> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut parts: Vec<&str> = path.split("::").map(str::trim).collect();
    if parts.first() == Some(&"crate") {
        at.clear();
        parts.remove(0);
    }
    while parts.first() == Some(&"super") {
        at.pop();
        parts.remove(0);
    }
    let whole: Vec<&str> = at.iter().chain(&parts).copied().collect();
    let named = (0..=whole.len()).rev().map(|n| whole[..n].join("::"));
    named.into_iter().find(|name| known.contains_key(name)).filter(|name| name != module)
}

fn edges(known: &BTreeMap<String, String>) -> Edges {
    let uses = Regex::new(r"(?s)\buse\s+([^;]+);").unwrap();
    let inline = Regex::new(r"\b(?:crate|super|[a-z_]+)(?:::[A-Za-z_]+)+").unwrap();
    let mut edges = Edges::new();
    for (module, code) in known {
        let mut paths = Vec::new();
        for found in uses.captures_iter(code) {
            flat(&found[1], &mut paths);
        }
        let rest = uses.replace_all(code, "");
        paths.extend(inline.find_iter(&rest).map(|found| found.as_str().to_owned()));
        let targets = paths.iter().filter_map(|path| target(module, path, known));
        // A path of another package resolves to the module that uses it, or to the root.
        edges.insert(module.clone(), targets.filter(|to| !to.is_empty()).collect());
    }
    edges
}

/// Removes modules without dependencies until none or only cycles are left.
fn circles(mut edges: Edges) -> Edges {
    loop {
        let before = edges.len();
        let left: BTreeSet<String> = edges.keys().cloned().collect();
        edges.retain(|_, needs| {
            needs.retain(|need| left.contains(need));
            !needs.is_empty()
        });
        if edges.len() == before {
            return edges;
        }
    }
}

#[test]
fn no_modules_stand_in_a_circle() {
    let mut known = BTreeMap::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut known);
    let needs = edges(&known);
    for (from, to) in
        [("xds::table", "xds::host"), ("xds", "xds::resource"), ("ir::model", "ir::policy")]
    {
        assert!(needs[from].contains(to), "{from} needs {to}: {:?}", needs[from]);
    }
    assert_eq!(circles(needs), Edges::new());
    // An existing cycle is found.
    let text = |code: &str| code.to_owned();
    let bad = BTreeMap::from([
        (text("a"), text("use super::b::{self, X};")),
        (text("b"), text("use crate::c::deep::Y;")),
        (text("c::deep"), text("fn f() -> super::super::a::Z {}")),
        (text("d"), text("use crate::a::Z;")),
    ]);
    assert!(circles(edges(&bad)).keys().eq(["a", "b", "c::deep", "d"]), "and who needs it");
}
