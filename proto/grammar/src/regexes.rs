//! Tenants' regular expressions: parsed and measured, never compiled here.
//!
//! Compiling one costs memory and time that depend on its meaning, not its length: ten bytes,
//! `\w{1000}`, become megabytes. Parsing it depends on its length only. Envoy compiles it with RE2
//! and decides; the compiled size is estimated here, so that everybody's work is bounded in
//! advance.

mod anchors;
mod groups;
mod size;

use regex_syntax::ast;
use thiserror::Error;

use crate::caps;

/// Why an expression is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegexFault {
    /// Empty or too long.
    #[error("1 to {} bytes", caps::REGEX_BYTES.value)]
    Length,
    /// Too large once compiled.
    #[error(
        "too large: it would be {0} instructions or more, at most {max} are accepted",
        max = caps::REGEX_PROGRAM.value
    )]
    Size(u64),
    /// Not in the encoding of a path.
    #[error(
        "a path arrives percent-encoded: '{0}' is (?i:{1}), or write an `exact`, a `prefix` or a `template`"
    )]
    Path(char, String),
    /// Too large when rewritten below a base path.
    #[error(
        "its anchors mean something else below a base path; write '^' and '\\b' at the beginning only"
    )]
    Anchors,
    /// It cannot be parsed.
    #[error("{0}")]
    Syntax(String),
}

/// The deepest nesting of groups and classes.
const NEST_LIMIT: u32 = 24;

/// Accepts what RE2 most likely parses and what is small enough once compiled.
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
    // Checks names of Unicode classes and reversed ranges. Bounded by the count above.
    let mut translator = regex_syntax::hir::translate::Translator::new();
    translator.translate(text, &tree).map(drop).map_err(|error| syntax(error.to_string()))
}

/// An upper bound of Envoy's instruction count; 0 for what cannot be parsed.
pub fn size(text: &str) -> u64 {
    parser().parse(text).map_or(0, |tree| size::instructions(&tree).saturating_add(AROUND))
}

/// Instructions of every program: to begin anywhere, to match, to fail.
const AROUND: u64 = 5;

/// The expression that matches `base` followed by what `text` matches as a whole path. `^` in it
/// means the position after the base.
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
    // Unusual anchors may make it large. The API refuses that; stored expressions are still served.
    found.filter(|it| is_small(it)).unwrap_or_else(|| text.trim_start_matches('^').to_owned())
}

/// Whether an expression is also small below a base path, where anchors are rewritten.
fn is_small(text: &str) -> bool {
    text.len() <= 4 * caps::REGEX_BYTES.size() && size(text) <= 2 * caps::REGEX_PROGRAM.value
}

/// Checks the expression of a path, which is percent-encoded when a route sees it: text in other
/// scripts would never match.
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

/// Whether all that the expression matches as a whole begins with this text. Says no where it cannot
/// tell.
pub fn always_begins_with(text: &str, start: &str) -> bool {
    use regex_syntax::hir::literal::Extractor;
    let Ok(tree) = parser().parse(text) else { return false };
    let mut translator = regex_syntax::hir::translate::Translator::new();
    let Ok(meaning) = translator.translate(text, &tree) else { return false };
    let mut extractor = Extractor::new();
    extractor.limit_literal_len(start.len() + 100);
    let all = extractor.extract(&meaning);
    let begins = |of: &[_]| {
        let of = of.iter();
        of.map(regex_syntax::hir::literal::Literal::as_bytes)
            .all(|it| it.starts_with(start.as_bytes()))
    };
    all.literals().is_some_and(|list| !list.is_empty() && begins(list))
}

fn parser() -> ast::parse::Parser {
    ast::parse::ParserBuilder::new().nest_limit(NEST_LIMIT).build()
}
