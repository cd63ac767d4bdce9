//! Each metric of the code is in the tables of `docs/operations.md`, and nothing else is.

use std::collections::BTreeMap;

use super::File;

const PREFIXES: [&str; 2] = ["imp_", "xds_"];

/// What is missing on the page, and what should not be there.
pub(super) fn faults(page: &str, files: &[File]) -> Vec<String> {
    let mut set: BTreeMap<&str, &str> = BTreeMap::new();
    for file in files.iter().filter(|file| is_code(&file.path)) {
        for name in names(&file.text) {
            set.entry(name).or_insert(&file.path);
        }
    }
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split(['`', '{']).next());
    let explained: Vec<&str> = names.filter(|name| is_metric(name)).collect();
    let missing = set.iter().filter(|(name, _)| !explained.contains(name));
    let mut faults: Vec<_> =
        missing.map(|(name, path)| format!("{path}: {name} is not explained")).collect();
    let gone = explained.iter().filter(|name| !set.contains_key(**name));
    faults.extend(gone.map(|name| format!("{name} is explained, and nothing sets it")));
    faults
}

/// Whether the file is part of the product.
fn is_code(path: &str) -> bool {
    path.ends_with(".rs") && path.contains("src/") && !path.starts_with("bench/")
}

fn is_metric(name: &str) -> bool {
    PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Names in the call, and names in a constant: any quoted text that looks like one.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let calls = ["counter!(", "gauge!(", "histogram!("];
    calls.into_iter().flat_map(move |call| text.split(call).skip(1)).filter_map(|rest| {
        let quoted = rest.trim_start().strip_prefix('"')?;
        quoted.split('"').next().filter(|name| is_metric(name))
    })
}
