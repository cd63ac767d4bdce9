//! What this Envoy has for the module, and what the matrix says of it. `make test-module-matrix`
//! runs the tests in every Envoy of the matrix.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use imp_module::matrix::{self, Envoy as Row};
use imp_module::{EARLY_NAMES, NAMES, VERSION};
use serde_json::json;

use crate::bootstrap::{self, bootstrap as with};
use crate::elf::exported;
use crate::envoy::{Envoy, binary, free_port, library, upstream};
use crate::fixtures as of;

/// The row of the Envoy that the tests run.
fn row() -> &'static Row {
    let output = Command::new(binary()).arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // Its commit, its version, and how it was built.
    let version = text.split('/').find(|part| part.starts_with("1.")).unwrap();
    let row = matrix::envoy(version).unwrap_or_else(|| panic!("not in the matrix: {version}"));
    assert_eq!(row.tested, version, "the matrix says what is tested");
    row
}

#[test]
fn this_envoy_has_what_the_module_calls() {
    let has = exported(Path::new(&binary()), "envoy_dynamic_module_callback_");
    let missing: Vec<_> = NAMES.iter().filter(|name| !has.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let has_hosts = EARLY_NAMES.iter().all(|name| has.contains(*name));
    assert_eq!(has_hosts, row().has_hosts);
}

#[test]
fn the_module_has_what_this_envoy_calls() {
    let header = include_str!("../data/abi.txt").lines();
    let hooks = header.filter_map(|line| line.strip_prefix("hook ")?.split('(').next());
    let hooks: BTreeSet<_> = hooks.map(|name| format!("envoy_dynamic_module_on_{name}")).collect();
    assert_eq!(exported(&library(), "envoy_dynamic_module_on_"), hooks);
}

#[test]
fn another_version_of_the_abi_is_a_warning_and_a_missing_extension_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("snapshot");
    of::write_snapshot(&file, of::everything(&[]));
    let state = json!({"snapshot": file});
    let door = bootstrap::door(&library(), "door", &json!({"state": state}));
    let listener = |more: serde_json::Value| bootstrap::listener(free_port(), door.clone(), &more);
    let row = row();
    let envoy = Envoy::start(&with(&[listener(json!({}))], upstream(), 1), 1);
    let warns = |line: &str| line.contains("[warning][dynamic_modules]") && line.contains(VERSION);
    assert_eq!(envoy.log().lines().any(warns), row.abi != VERSION, "{}", envoy.log());
    let host = bootstrap::scope_key(&library(), &json!({"state": state, "port": 1}));
    let with_host = listener(json!({"early_header_mutation_extensions": host}));
    let mut envoy = Envoy::spawn(&with(&[with_host], upstream(), 1), &[]);
    if !row.has_hosts {
        assert_eq!(envoy.ended(), Some(1), "{}", envoy.log());
        assert!(envoy.log().contains("DynamicModuleEarlyHeaderMutation"), "{}", envoy.log());
        return;
    }
    crate::envoy::eventually("ready", || envoy.is_ready().then_some(()));
}
