//! The repository's rules, checked by tests: each one walks the repository, and each one is shown a
//! bad sample that it must refuse.

mod advisories;
mod codes;
mod manifest;
mod metrics;
mod modules;
mod parts;
mod rules;
mod source;
mod threats;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A text file of the repository.
struct File {
    /// From the repository's root, with '/'.
    path: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Every text file that is, or could be, committed.
fn files() -> Result<Vec<File>> {
    let mut found = Vec::new();
    walk(&root(), "", &mut found)?;
    assert!(found.len() > 50, "only {} files: not the repository's root?", found.len());
    Ok(found)
}

fn walk(directory: &Path, prefix: &str, found: &mut Vec<File>) -> Result<()> {
    const NOT_OURS: [&str; 10] = [
        "target",
        "corpus", // bytes of the fuzzers, text by chance
        ".git",
        ".venv",
        ".demo",
        "imp-agent-state",
        "imp-data",
        "node_modules",
        "__pycache__",
        "Cargo.lock",
    ];
    for entry in std::fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if NOT_OURS.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{path}/"), found)?;
        } else if let Ok(text) = std::fs::read_to_string(entry.path()) {
            found.push(File { path, text });
        }
    }
    Ok(())
}

fn hold(rule: fn(&File) -> Vec<String>) {
    let faults = files().map(|files| files.iter().flat_map(rule).collect::<Vec<String>>());
    let faults = faults.unwrap_or_else(|error| vec![error.to_string()]);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn bites(rule: fn(&File) -> Vec<String>, path: &str, text: &str) {
    let sample = File { path: path.to_owned(), text: text.to_owned() };
    assert!(!rule(&sample).is_empty(), "a bad sample passed: {path}");
}

fn passes(rule: fn(&File) -> Vec<String>, path: &str, text: &str) {
    let sample = File { path: path.to_owned(), text: text.to_owned() };
    assert_eq!(rule(&sample), Vec::<String>::new(), "a good sample was refused: {path}");
}

#[test]
fn files_have_at_most_500_lines() {
    hold(rules::file_length);
    let long = "fn f() {}\n".repeat(501);
    bites(rules::file_length, "control/src/long.rs", &long);
    passes(rules::file_length, "control/tests/it/long.rs", &long);
    let tests = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    passes(rules::file_length, "control/src/well_tested.rs", &tests);
}

#[test]
fn functions_have_at_most_80_lines() {
    hold(rules::function_length);
    let body = "    let text = \"}\"; // }\n".repeat(80);
    let long = format!("pub fn long<T>(x: [u8; 2]) -> T\nwhere T: Fn() {{\n{body}}}\n");
    bites(rules::function_length, "xds/src/a.rs", &long);
    bites(rules::function_length, "xds/src/a.rs", &format!("impl A {{\n{long}}}\n"));
    passes(
        rules::function_length,
        "xds/src/a.rs",
        &format!("#[cfg(test)]\nmod tests {{\n{long}}}\n"),
    );
    let short =
        "trait T { fn declared(&self) -> u8; }\nfn f() { let c = '{'; let r = r#\"{\"#; }\n";
    passes(rules::function_length, "xds/src/a.rs", &format!("{short}{}", "\n".repeat(100)));
}

#[test]
fn modules_are_foo_rs_beside_foo() {
    hold(rules::no_mod_rs);
    bites(rules::no_mod_rs, "agent/src/link/mod.rs", "");
}

#[test]
fn lints_are_expected_with_a_reason_never_allowed() {
    hold(rules::no_allow);
    bites(rules::no_allow, "agent/src/a.rs", "#[allow(dead_code)]\nfn f() {}\n");
    bites(rules::no_allow, "agent/src/a.rs", "#![allow(dead_code)]\n");
    bites(rules::no_allow, "agent/src/a.rs", "#[cfg_attr(test, allow(dead_code))]\n");
    passes(rules::no_allow, "agent/src/a.rs", "// #[allow(dead_code)] is refused\n");
}

#[test]
fn no_file_knows_a_machine() {
    hold(rules::no_machine_path);
    let home = ["", "root", "main"].join("/");
    bites(rules::no_machine_path, "README.md", &format!("see {home} for it"));
    bites(rules::no_machine_path, "deploy/a.sh", &format!("cd \"{home}\""));
    passes(rules::no_machine_path, "README.md", &format!("https://example.com{home}"));
}

#[test]
fn text_is_plain() {
    hold(rules::plain_text);
    bites(rules::plain_text, "README.md", "done \u{2705}");
    bites(rules::plain_text, "README.md", "trailing blank \n");
}

#[test]
fn a_noun_has_one_spelling() {
    hold(rules::one_spelling);
    bites(rules::one_spelling, "control/src/a.rs", &format!("struct {}Service;", "API"));
}

#[test]
fn packages_depend_only_downwards() {
    hold(manifest::dependencies);
    let core = |line: &str| format!("[package]\nname = \"imp-core\"\n[dependencies]\n{line}\n");
    for bad in
        ["sqlx.workspace = true", "tokio = { workspace = true }", "imp-proto.workspace = true"]
    {
        bites(manifest::dependencies, "control/core/Cargo.toml", &core(bad));
    }
    passes(manifest::dependencies, "control/core/Cargo.toml", &core("serde.workspace = true"));
    for (package, bad) in [
        ("imp-xds", "imp-proto"),
        ("imp-xds", "envoy-types"),
        ("imp-control", "imp-agent"),
        ("imp-control", "envoy-types"),
        ("imp-control", "sqlx"),
        ("imp-agent", "imp-core"),
        ("imp-agent", "imp-store"),
        ("imp-agent", "sqlx"),
        ("imp-translate", "tokio"),
        ("imp-enforce", "imp-xds"),
    ] {
        let text =
            format!("[package]\nname = \"{package}\"\n[dependencies]\n{bad}.workspace = true\n");
        bites(manifest::dependencies, "any/Cargo.toml", &text);
    }
    bites(manifest::dependencies, "new/Cargo.toml", "[package]\nname = \"imp-new\"\n");
}

#[test]
fn modules_name_nothing_across_a_boundary() {
    hold(modules::boundaries);
    let bad = |path: &str, text: &str| bites(modules::boundaries, path, text);
    for path in ["control/src/flows.rs", "control/src/flows/plan.rs", "control/src/compile/a.rs"] {
        bad(path, "use crate::rest::call::Call;");
        bad(path, "use http::StatusCode;");
        bad(path, "use crate::{state::State, rest::{call, crud}};");
        bad(path, "fn f() -> axum::Router { axum::Router::new() }");
    }
    bad("control/src/flows.rs", "use super::rest::crud;");
    bad("control/src/flows/plan.rs", "use super::super::rest::crud;");
    bad("control/src/hub/settle.rs", "use http::HeaderMap;");
    bad("control/src/hub/agent_auth.rs", "use crate::rest::call::Call;");
    bad("control/core/src/plan.rs", "use tokio::time::sleep;");
    bad("control/core/src/plan.rs", "struct A { pool: sqlx::SqlitePool }");
    bad("control/src/rest/plans.rs", "fn f() { imp_core::scope::TenantScope::platform(); }");
    bad("control/src/rest/plans.rs", "fn f(s: &State) { Operation::of_platform(s); }");
    bad("control/src/jobs/prune.rs", "fn f() { TenantScope::platform(); }");

    let good = |path: &str, text: &str| passes(modules::boundaries, path, text);
    good(
        "control/src/flows/plan.rs",
        "// crate::rest\nuse tower_http::trace; use crate::resting::a;",
    );
    good("control/src/flows/plan.rs", "#[cfg(test)]\nmod tests { use crate::rest::call; }");
    good("control/src/rest/plans.rs", "use http::StatusCode; use crate::rest::call::Call;");
    good("control/src/hub/agent_auth.rs", "use http::HeaderMap;");
    good("control/src/app.rs", "fn f(s: &State) { Operation::of_platform(s); }");
}

#[test]
fn who_writes_leaves_an_audit_row() {
    hold(modules::transactions);
    let opens = "async fn f(store: Store) { let tx = store.begin().await; }";
    bites(modules::transactions, "control/src/flows/plan.rs", opens);
    bites(modules::transactions, "control/src/hub/service.rs", "fn f() { s.begin_unsynced() }");
    passes(modules::transactions, "control/src/operation/transaction.rs", opens);
    bites(modules::transactions, "control/src/jobs/prune.rs", opens);
    bites(modules::transactions, "control/src/app/bootstrap.rs", opens);
    passes(modules::transactions, "control/src/jobs/worker/perform.rs", opens);
}

#[test]
fn the_modules_of_a_package_form_no_circle() {
    let faults = modules::circles(&files().unwrap(), &modules::PACKAGES, modules::LEFT);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));

    let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
    let mut sample = vec![
        file("a/src/lib.rs", "mod one; mod two; mod three;"),
        file("a/src/one.rs", "use crate::two::Two;"),
        file("a/src/two/part.rs", "fn f() { super::super::three::f() }"),
        file("a/src/two.rs", "mod part; #[cfg(test)] mod tests { use crate::one::One; }"),
        file("a/src/three.rs", "// crate::one"),
    ];
    assert_eq!(modules::circles(&sample, &["a/src"], &[]), Vec::<String>::new());
    let left: &[(&str, &[&str])] = &[("a/src", &["one", "three", "two"])];
    assert_eq!(modules::circles(&sample, &["a/src"], left).len(), 1, "not needed");
    sample[4].text = "use crate::{one, two};".to_owned();
    let faults = modules::circles(&sample, &["a/src"], &[]);
    assert!(faults.len() == 1 && faults[0].contains("three -> one (a/src/three.rs)"), "{faults:?}");
    assert_eq!(modules::circles(&sample, &["a/src"], left), Vec::<String>::new());
}

#[test]
fn versions_stand_in_the_workspace_each_with_a_reason() {
    hold(manifest::versions);
    let pinned = "[package]\nname = \"imp-xds\"\n[dependencies]\nhex = \"0.4\"\n";
    bites(manifest::versions, "xds/Cargo.toml", pinned);
    let table =
        "[workspace.dependencies]\n# Each with the one reason why it is here.\nhex = \"0.4\"\n";
    bites(manifest::versions, "Cargo.toml", table);
}

#[test]
fn every_dependency_is_used() {
    let faults = manifest::unused(&files().unwrap());
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    let file = |path: &str, text: &str| File { path: path.to_owned(), text: text.to_owned() };
    let sample = [
        file("Cargo.toml", "[workspace.dependencies]\nhex = \"1\"\nrand = \"1\"\nsha2 = \"1\"\n"),
        file(
            "xds/Cargo.toml",
            "[package]\nname = \"imp-xds\"\n[dependencies]\nhex.workspace = true\n\
             sha2.workspace = true\n",
        ),
        file("xds/src/lib.rs", "fn f() { hex::encode([]) }"),
        file("agent/src/lib.rs", "use sha2::Sha256;"),
    ];
    let faults = manifest::unused(&sample);
    assert_eq!(faults, ["xds/Cargo.toml: nobody uses sha2", "Cargo.toml: no package names rand"]);
}

#[test]
fn every_package_takes_the_house_lints() {
    hold(manifest::lints);
    bites(manifest::lints, "xds/Cargo.toml", "[package]\nname = \"imp-xds\"\n");
}

#[test]
fn every_folder_says_what_it_is() {
    let paths: Vec<String> = files().unwrap().into_iter().map(|file| file.path).collect();
    let faults = rules::missing_readmes(&paths);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    let sample =
        ["xds/src/lib.rs", "agent/README.md", "agent/module/Cargo.toml"].map(str::to_owned);
    assert_eq!(
        rules::missing_readmes(&sample),
        ["xds has no README.md", "agent/module has no README.md"]
    );
}

#[test]
fn every_migration_has_both_dialects() {
    let paths: Vec<String> = files().unwrap().into_iter().map(|file| file.path).collect();
    assert!(paths.iter().any(|path| path.starts_with("migrations/sqlite/")));
    let faults = rules::lone_migrations(&paths);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    let sample = [
        "migrations/sqlite/0001_a.sql",
        "migrations/postgres/0001_a.sql",
        "migrations/sqlite/0002_b.sql",
    ]
    .map(str::to_owned);
    assert_eq!(rules::lone_migrations(&sample), ["0002_b.sql is missing in migrations/postgres"]);
}

#[test]
fn no_crate_has_a_known_fault() {
    let lock = std::fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let faults = advisories::faults(&lock);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_package_is_tested_in_one_part_of_ci() {
    let files = files().unwrap();
    let script = files.iter().find(|file| file.path == "deploy/tools/tests.py").unwrap();
    let faults = parts::faults(&script.text, &files);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    let sample = "PARTS = {\"unit\": [\"imp-xds\", \"imp-gone\"], \"envoy\": [\"imp-xds\"]}";
    let faults = parts::faults(sample, &files);
    let is_told = |words: &str| faults.iter().any(|fault| fault == words);
    assert!(is_told("imp-xds stands in 2 parts of tests.py"), "{faults:?}");
    assert!(is_told("imp-core stands in 0 parts of tests.py"), "{faults:?}");
    assert!(is_told("tests.py names imp-gone, which is no package"), "{faults:?}");
}

#[test]
fn every_error_code_is_explained_to_clients() {
    let files = files().unwrap();
    let page = files.iter().find(|file| file.path == "docs/api.md").unwrap();
    let faults = codes::faults(&page.text, &files);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    let code = "fn f() { Problem::conflict(\n    \"brand_new\", why) }";
    let sample = [File { path: "control/src/a.rs".to_owned(), text: code.to_owned() }];
    let faults = codes::faults("| `gone` | 409 | a |\n", &sample);
    assert_eq!(
        faults,
        [
            "control/src/a.rs: brand_new is not explained",
            "gone is explained, and nothing answers so"
        ]
    );
}

#[test]
fn every_metric_is_explained_to_operators() {
    let files = files().unwrap();
    let page = files.iter().find(|file| file.path == "docs/operations.md").unwrap();
    let faults = metrics::faults(&page.text, &files);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    let code = "fn f() { metrics::counter!(\"imp_new_total\").increment(1); }";
    let sample = [File { path: "agent/src/a.rs".to_owned(), text: code.to_owned() }];
    let faults = metrics::faults("| `imp_gone` | a |\n", &sample);
    assert_eq!(
        faults,
        [
            "agent/src/a.rs: imp_new_total is not explained",
            "imp_gone is explained, and nothing sets it"
        ]
    );
}

#[test]
fn every_threat_names_the_tests_that_hold_it() {
    let files = files().unwrap();
    let table = files.iter().find(|file| file.path == "SECURITY.md");
    let faults = threats::faults(table.map_or("", |file| &file.text), &files);
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));

    let row = |number: u32| match number {
        7 => "| T07 | a | `bench/tests/it/tidy.rs::there_is_no_such_test` |\n".to_owned(),
        8 => "| T08 | a | nothing yet |\n".to_owned(),
        _ => format!("| T{number:02} | a | Not defined: a sample |\n"),
    };
    let table: String = (1..=46).map(row).collect();
    let faults = threats::faults(&table, &files);
    assert!(faults.len() == 2 && faults[0].contains("there_is_no_such_test"), "{faults:?}");
    let short: String = (1..=45).map(|number| row(number.max(9))).collect();
    assert_eq!(threats::faults(&short, &files).len(), 1);
}
