//! The fuzz targets, one function per trust boundary. The ordinary tests run the same functions on
//! the corpora (`bench/fuzz/corpus`, replayed by `bench/tests/corpus.rs`).
//!
//! A function returns for every input, valid or not. A violation is an `assert!` or a panic.

mod agent;
mod bytes;
mod contract;
mod ext_authz;
mod files;
mod hub;
mod rest;

/// The name of a boundary, and its function.
pub type Target = (&'static str, fn(&[u8]));

/// Every target: the name of its fuzzer and of its corpus.
pub const TARGETS: &[Target] = &[
    ("rest_bodies", rest::bodies),
    ("page_tokens", rest::page_tokens),
    ("regexes", rest::regexes),
    ("contract", contract::specs),
    ("grammar", contract::grammar),
    ("registration", hub::registration),
    ("agent_jwt", hub::agent_jwt),
    ("delta_stream", agent::delta_stream),
    ("ext_authz", ext_authz::ext_authz),
    ("last_known_good", files::last_known_good),
    ("identity_file", files::identity_file),
];

/// Runs one of [`TARGETS`]; an unknown name is a mistake in a fuzzer's own source.
pub fn run(target: &str, bytes: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    let (_, run) = found.expect("a target of the table");
    run(bytes);
}
