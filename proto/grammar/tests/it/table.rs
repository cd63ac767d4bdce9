//! `docs/limits.md` is the table.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use imp_grammar::caps::{ALL, Cap, Unit};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn all() -> impl Iterator<Item = &'static Cap> {
    ALL.iter().flat_map(|(_, caps)| caps.iter())
}

fn value(cap: &Cap) -> String {
    match cap.unit {
        Unit::Bytes if cap.value.is_multiple_of(1 << 20) => format!("{} MiB", cap.value >> 20),
        Unit::Bytes if cap.value.is_multiple_of(1 << 10) => format!("{} KiB", cap.value >> 10),
        Unit::Milliseconds if cap.value.is_multiple_of(1000) => format!("{} s", cap.value / 1000),
        Unit::Count => cap.value.to_string(),
        unit => format!("{} {}", cap.value, unit.words()),
    }
}

fn document() -> String {
    let mut text = String::from(
        "# Limits\n\n\
         What is accepted, at most. One more is a typed error: 413, 422 or 409 with `code` and \
         `pointer` from the REST API, a\nrefused resource from an agent, a gRPC status from the \
         agents' port. The table stands in `proto/grammar/src/caps.rs`;\nthis page is written by \
         `UPDATE_LIMITS=1 cargo test -p imp-grammar` and compared with it by the same test.\n",
    );
    for (section, caps) in ALL {
        text.push_str(&format!(
            "\n## {section}\n\n| | At most | What | Held by | Edge test |\n|---|---|---|---|---|\n"
        ));
        for cap in *caps {
            let holders: Vec<_> = cap.held_by.iter().map(|holder| holder.words()).collect();
            let (name, value) = (cap.name.to_lowercase(), value(cap));
            let test = cap.test.rsplit("::").next().unwrap_or_default();
            text.push_str(&format!(
                "| `{name}` | {value} | {} | {} | `{test}` |\n",
                cap.bounds,
                holders.join(", ")
            ));
        }
    }
    text
}

#[test]
fn the_page_about_limits_is_the_table() {
    let path = root().join("docs/limits.md");
    let wanted = document();
    if std::env::var_os("UPDATE_LIMITS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "UPDATE_LIMITS=1 cargo test -p imp-grammar writes docs/limits.md");
}

#[test]
fn names_are_distinct_and_no_cap_is_zero() {
    let mut names = HashSet::new();
    for cap in all() {
        assert!(names.insert(cap.name), "{} stands twice", cap.name);
        assert!(cap.value > 0, "{}", cap.name);
    }
}
