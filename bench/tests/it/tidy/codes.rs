//! Each error code of REST is in the table of `docs/api.md`, and nothing else is.

use super::File;

/// Functions whose first text is a code: `Problem::conflict("in_use", ..)`.
const FIRST: [&str; 5] = [
    "Problem::conflict(",
    "Problem::unreadable(",
    "Problem::unavailable(",
    "Refusal::conflict(",
    "Refusal::unavailable(",
];

pub(super) fn faults(page: &str, files: &[File]) -> Vec<String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let explained: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    let sources: Vec<&File> = files.iter().filter(|file| is_control(&file.path)).collect();
    let mut faults = Vec::new();
    for file in &sources {
        for code in FIRST.iter().flat_map(|call| first_texts(&file.text, call)) {
            if !explained.contains(&code) {
                faults.push(format!("{}: {code} is not explained", file.path));
            }
        }
    }
    for code in explained {
        let quoted = format!("\"{code}\"");
        if !sources.iter().any(|file| file.text.contains(&quoted)) {
            faults.push(format!("{code} is explained, and nothing answers so"));
        }
    }
    faults
}

fn is_control(path: &str) -> bool {
    path.starts_with("control/") && path.contains("src/") && path.ends_with(".rs")
}

fn first_texts<'a>(text: &'a str, call: &str) -> impl Iterator<Item = &'a str> {
    let after: Vec<&str> = text.split(call).skip(1).collect();
    after.into_iter().filter_map(|rest| rest.trim_start().strip_prefix('"')?.split('"').next())
}
