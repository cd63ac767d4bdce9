//! The README's table names tests that exist.

const README: &str = include_str!("../../README.md");
const TESTS: &[&str] = &[
    include_str!("batches.rs"),
    include_str!("crowd.rs"),
    include_str!("debounce.rs"),
    include_str!("delta.rs"),
    include_str!("envoy.rs"),
    include_str!("envoy/fresh.rs"),
    include_str!("envoy/grpc.rs"),
    include_str!("envoy/poisoned.rs"),
    include_str!("first_answers.rs"),
    include_str!("interleavings.rs"),
    include_str!("ordering.rs"),
    include_str!("puller.rs"),
    include_str!("required.rs"),
    include_str!("routes.rs"),
    include_str!("shapes.rs"),
    include_str!("sockets.rs"),
    include_str!("sotw.rs"),
    include_str!("splitting.rs"),
    include_str!("ttl.rs"),
    include_str!("virtual_hosts.rs"),
    include_str!("../../src/stream/suspects.rs"),
];

/// Files that are named as a whole.
const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/");

#[test]
fn each_row_is_held_by_a_test() {
    let rows: Vec<_> = README.lines().filter(|line| line.starts_with("| R")).collect();
    assert!(rows.len() > 30, "the table is gone");
    for row in rows {
        let tests: Vec<_> = row.rsplit('|').nth(1).unwrap_or_default().split('`').collect();
        let tests: Vec<_> = tests.into_iter().skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "nothing holds {row}");
        for test in tests {
            let name = format!("fn {test}(");
            let is_test = TESTS.iter().any(|text| text.contains(&name));
            let is_file =
                test.ends_with(".rs") && std::fs::exists(format!("{FILES}{test}")).unwrap();
            assert!(is_test || is_file, "no test {test}");
        }
    }
}
