//! Rules about one file, or the list of all paths.

use std::collections::BTreeSet;

use super::{File, source};

const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 80;

fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs") || path.contains("/benches/")
}

pub(super) fn is_code(path: &str) -> bool {
    path.ends_with(".rs") && !is_test(path)
}

pub(super) fn file_length(file: &File) -> Vec<String> {
    let script = [".py", ".sh"].iter().any(|end| file.path.ends_with(end));
    if !is_code(&file.path) && !script {
        return vec![];
    }
    let tests: usize = if script {
        0
    } else {
        let code = source::blanked(&file.text);
        source::test_modules(&code).iter().map(|range| source::lines(&code, range)).sum()
    };
    let lines = file.text.lines().count() - tests.min(file.text.lines().count());
    if lines <= FILE_LINES {
        return vec![];
    }
    vec![format!("{}: {lines} lines; at most {FILE_LINES}, split it by what it does", file.path)]
}

pub(super) fn function_length(file: &File) -> Vec<String> {
    if !is_code(&file.path) {
        return vec![];
    }
    let code = source::blanked(&file.text);
    let tests = source::test_modules(&code);
    let is_product = |start: usize| !tests.iter().any(|test| test.contains(&start));
    source::functions(&code)
        .into_iter()
        .filter(|(_, range)| is_product(range.start))
        .map(|(name, range)| (name, source::lines(&code, &range)))
        .filter(|(_, lines)| *lines > FUNCTION_LINES)
        .map(|(name, lines)| {
            format!("{}: fn {name} has {lines} lines, at most {FUNCTION_LINES}", file.path)
        })
        .collect()
}

pub(super) fn no_mod_rs(file: &File) -> Vec<String> {
    if file.path.ends_with("/mod.rs") {
        return vec![format!("{}: write foo.rs beside foo/", file.path)];
    }
    vec![]
}

pub(super) fn no_allow(file: &File) -> Vec<String> {
    if !file.path.ends_with(".rs") {
        return vec![];
    }
    let code = String::from_utf8_lossy(&source::blanked(&file.text)).into_owned();
    let is_allow = |line: &str| {
        let line = line.trim_start();
        line.starts_with('#') && (line.contains("[allow(") || line.contains(" allow("))
    };
    numbered(&code)
        .filter(|(_, line)| is_allow(line))
        .map(|(number, _)| {
            format!("{}:{number}: #[expect(.., reason)] instead of allow", file.path)
        })
        .collect()
}

pub(super) fn no_machine_path(file: &File) -> Vec<String> {
    let places = ["root", "work", "home", "tmp"].map(|place| format!("/{place}/"));
    let begins_a_path = |line: &str, at: usize| {
        let before = line[..at].chars().next_back().unwrap_or(' ');
        !(before.is_alphanumeric() || "._-~}>*".contains(before))
    };
    let names_one = |line: &str| {
        places.iter().any(|place| line.match_indices(place).any(|(at, _)| begins_a_path(line, at)))
    };
    numbered(&file.text)
        .filter(|(_, line)| names_one(line))
        .map(|(number, line)| {
            format!("{}:{number}: a path of one machine: {}", file.path, line.trim())
        })
        .collect()
}

pub(super) fn plain_text(file: &File) -> Vec<String> {
    let picture = |c: char| matches!(u32::from(c), 0x2600..=0x27bf | 0x2b00..=0x2bff | 0x1f000..=0x1faff | 0xfe0f);
    numbered(&file.text)
        .filter(|(_, line)| {
            line.chars().any(picture) || (line.ends_with(' ') && !file.path.ends_with(".snap"))
        })
        .map(|(number, _)| format!("{}:{number}: a pictogram or a trailing blank", file.path))
        .collect()
}

/// Other spellings of the product's nouns, as programs would write them.
pub(super) fn one_spelling(file: &File) -> Vec<String> {
    if !file.path.ends_with(".rs") && !file.path.ends_with(".sql") && !file.path.ends_with(".proto")
    {
        return vec![];
    }
    let other = [
        ["API", "Service"],
        ["Api", "Svc"],
        ["API", "Key"],
        ["Product", "Publication"],
        ["product_", "publication"],
        ["Client", "Application"],
        ["client_", "application"],
        ["Registration", "Key"],
    ]
    .map(|parts| parts.concat());
    numbered(&file.text)
        .filter_map(|(number, line)| {
            let noun = other.iter().find(|noun| line.contains(noun.as_str()))?;
            Some(format!("{}:{number}: '{noun}' has another spelling in the PRD", file.path))
        })
        .collect()
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// Every top-level folder and every package has a README.
pub(super) fn missing_readmes(paths: &[String]) -> Vec<String> {
    let top =
        paths.iter().filter_map(|path| path.split_once('/')).map(|(folder, _)| folder.to_owned());
    let packages =
        paths.iter().filter_map(|path| path.strip_suffix("/Cargo.toml")).map(str::to_owned);
    let mut seen = BTreeSet::new();
    top.chain(packages)
        .filter(|folder| !folder.starts_with('.') && seen.insert(folder.clone()))
        .filter(|folder| !paths.contains(&format!("{folder}/README.md")))
        .map(|folder| format!("{folder} has no README.md"))
        .collect()
}

/// Migrations in one dialect only.
pub(super) fn lone_migrations(paths: &[String]) -> Vec<String> {
    let of = |folder: &str| -> BTreeSet<&str> {
        paths
            .iter()
            .filter_map(|p| p.strip_prefix(folder))
            .filter(|p| p.ends_with(".sql"))
            .collect()
    };
    let (sqlite, postgres) = (of("migrations/sqlite/"), of("migrations/postgres/"));
    let missing = |names: BTreeSet<&str>, folder: &'static str| -> Vec<String> {
        names.into_iter().map(|name| format!("{name} is missing in migrations/{folder}")).collect()
    };
    let mut faults = missing(&sqlite - &postgres, "postgres");
    faults.extend(missing(&postgres - &sqlite, "sqlite"));
    faults
}
