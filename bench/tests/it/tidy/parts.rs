//! CI runs the tests in parts: each package with tests of its own is in one of them.

use super::{File, manifest};

/// Faults of the table in `deploy/tools/tests.py`.
pub(super) fn faults(script: &str, files: &[File]) -> Vec<String> {
    let table = script.split("PARTS = {").nth(1).and_then(|rest| rest.split('}').next());
    let Some(table) = table else { return vec!["tests.py has no PARTS".to_owned()] };
    let mut faults = Vec::new();
    let packages: Vec<&str> = files.iter().filter_map(manifest::package).collect();
    for package in &packages {
        match table.matches(&format!("\"{package}\"")).count() {
            1 => {}
            count => faults.push(format!("{package} stands in {count} parts of tests.py")),
        }
    }
    let named = table.split('"').filter(|word| word.starts_with("imp-"));
    let gone = named.filter(|name| !packages.contains(name));
    faults.extend(gone.map(|name| format!("tests.py names {name}, which is no package")));
    faults
}
