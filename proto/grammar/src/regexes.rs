//! Regular expressions of tenants: read and counted, never compiled here.
//!
//! To compile one costs memory and time that grow with what it says, not with its length: ten bytes,
//! `\w{1000}`, are megabytes. Reading it costs what its length costs. Envoy compiles it with RE2 and
//! has the last word; what it would be compiled to is estimated here, so that the work of every
//! party is bounded before it begins.

mod anchors;
mod groups;
mod size;

use regex_syntax::ast;
use thiserror::Error;

use crate::caps;

/// Why an expression is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegexFault {
    /// No text, or too much of it.
    #[error("1 to {} bytes", caps::REGEX_BYTES.value)]
    Length,
    /// Compiled it would be too large.
    #[error(
        "too large: it would be {0} instructions or more, at most {max} are accepted",
        max = caps::REGEX_PROGRAM.value
    )]
    Size(u64),
    /// Not as it comes in a path.
    #[error(
        "a path arrives percent-encoded: '{0}' is (?i:{1}), or write an `exact`, a `prefix` or a `template`"
    )]
    Path(char, String),
    /// Written out below a base path, it would be too large.
    #[error(
        "its anchors mean something else below a base path; write '^' and '\\b' at the beginning only"
    )]
    Anchors,
    /// It cannot be read.
    #[error("{0}")]
    Syntax(String),
}

/// Groups and classes in each other.
const NEST_LIMIT: u32 = 24;

/// Accepts what RE2 will most likely read and what is small enough once compiled.
pub fn check(text: &str) -> Result<(), RegexFault> {
    if text.is_empty() || !caps::REGEX_BYTES.admits(text.len()) {
        return Err(RegexFault::Length);
    }
    let syntax = |error: String| {
        RegexFault::Syntax(error.lines().last().unwrap_or_default().trim().to_owned())
    };
    let tree = parser().parse(text).map_err(|error| syntax(error.to_string()))?;
    let size = size::instructions(&tree);
    if size > caps::REGEX_PROGRAM.value {
        return Err(RegexFault::Size(size));
    }
    // Names of Unicode classes, ranges that end before they begin. Bounded by what was counted above.
    let mut translator = regex_syntax::hir::translate::Translator::new();
    translator.translate(text, &tree).map(drop).map_err(|error| syntax(error.to_string()))
}

/// How many instructions Envoy would count at most; of what cannot be read none.
pub fn size(text: &str) -> u64 {
    parser().parse(text).map_or(0, |tree| size::instructions(&tree).saturating_add(AROUND))
}

/// Every program has them: to begin anywhere, to match, to fail.
const AROUND: u64 = 5;

/// The expression that takes `base` and behind it what `text` takes as a whole path. `^` in it means
/// the place behind the base.
pub fn below(base: &str, text: &str) -> String {
    if base.is_empty() {
        return text.to_owned();
    }
    format!("{}(?:{})", regex_syntax::escape(base), without_start(text))
}

/// The groups of a path's expression that no target of a rewrite can name: see [`below`].
pub fn copied_groups(text: &str) -> Vec<usize> {
    let copied = parser().parse(text).map(|tree| anchors::copied_groups(text, &tree));
    let copied = copied.unwrap_or_default().into_iter();
    copied.filter_map(|index| usize::try_from(index).ok()).collect()
}

fn without_start(text: &str) -> String {
    let found = parser().parse(text).ok().and_then(|tree| anchors::without_start(text, &tree));
    // Odd anchors may make it large. The API refuses that; what was stored before serves on.
    found.filter(|it| is_small(it)).unwrap_or_else(|| text.trim_start_matches('^').to_owned())
}

/// Whether an expression is small below a base path, too, where anchors are written out.
fn is_small(text: &str) -> bool {
    text.len() <= 4 * caps::REGEX_BYTES.size() && size(text) <= 2 * caps::REGEX_PROGRAM.value
}

/// Checks the expression of a path, which comes to a route percent-encoded: text in other scripts
/// would never match.
pub fn check_path(text: &str) -> Result<(), RegexFault> {
    check(text)?;
    if let Some(c) = text.chars().find(|c| !c.is_ascii()) {
        let encoded: String = c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
        return Err(RegexFault::Path(c, encoded));
    }
    let Ok(tree) = parser().parse(text) else { return Ok(()) };
    let below = anchors::without_start(text, &tree);
    if below.is_some_and(|it| is_small(&it)) { Ok(()) } else { Err(RegexFault::Anchors) }
}

fn parser() -> ast::parse::Parser {
    ast::parse::ParserBuilder::new().nest_limit(NEST_LIMIT).build()
}
