//! The table of SECURITY.md: every threat is there, and every test that it names exists.

use super::File;

const THREATS: std::ops::RangeInclusive<u32> = 1..=46;

/// What may be in place of a test: the reason why there is none.
const REASONS: [&str; 3] = ["Not applicable: ", "Not defined: ", "Not yet: "];

/// `files` are all of the repository.
pub(super) fn faults(table: &str, files: &[File]) -> Vec<String> {
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| T"))
        .map(|line| line.trim_matches(['|', ' ']).split(" | ").map(str::trim).collect())
        .collect();
    let ids: Vec<&str> = rows.iter().filter_map(|row| row.first().copied()).collect();
    let wanted: Vec<String> = THREATS.map(|number| format!("T{number:02}")).collect();
    let mut faults = Vec::new();
    if ids != wanted {
        faults.push(format!("SECURITY.md: rows {ids:?}, wanted T01 to T46 in order"));
    }
    faults.extend(rows.iter().flat_map(|row| row_faults(row, files)));
    faults
}

fn row_faults(row: &[&str], files: &[File]) -> Vec<String> {
    let &[id, _, held_by] = row else { return vec![format!("SECURITY.md: {row:?}: three cells")] };
    let quoted = held_by.split('`').skip(1).step_by(2);
    let tests: Vec<(&str, &str)> = quoted.filter_map(|text| text.split_once("::")).collect();
    let reasoned = REASONS.iter().any(|reason| held_by.starts_with(reason));
    if tests.is_empty() && !reasoned {
        return vec![format!("SECURITY.md: {id} names no test and no reason")];
    }
    let missing = |(path, function): &&(&str, &str)| !has_test(files, path, function);
    let named = tests.iter().filter(missing);
    named
        .map(|(path, name)| format!("SECURITY.md: {id}: there is no test {path}::{name}"))
        .collect()
}

/// A function of that name, or the name in a macro that generates tests from a list.
fn has_test(files: &[File], path: &str, function: &str) -> bool {
    let file = files.iter().find(|file| file.path == path);
    file.is_some_and(|file| {
        let lines = file.text.lines().map(str::trim_start);
        lines.map(|line| line.trim_start_matches("async ")).any(|line| {
            line.strip_prefix("fn ").unwrap_or(line).strip_prefix(function).is_some_and(|rest| {
                let made_by_macro = rest.starts_with(": \"");
                made_by_macro || (line.starts_with("fn ") && rest.starts_with('('))
            })
        })
    })
}
