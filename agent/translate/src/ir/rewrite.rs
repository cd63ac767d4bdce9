//! Targets of rewrites.

use imp_grammar::rewrite::{self, Source};

use super::grammar::{self, Fault};
use super::model::PathMatch;

/// Parses a rewrite's target, a path with variables of the matched one.
pub(super) fn target(text: &str, of: &PathMatch) -> Result<String, Fault> {
    let read = rewrite::read(text, source(of));
    let target = read.map_err(|_| Fault::Path(grammar::short(text)))?;
    grammar::path(&target.sample()).map_err(|_| Fault::Path(grammar::short(text)))?;
    Ok(text.to_owned())
}

/// The source of a path's variables.
pub(crate) fn source(path: &PathMatch) -> Source<'_> {
    match path {
        PathMatch::Template(template) => Source::Template(template),
        PathMatch::Regex(regex) => Source::Regex(regex),
        PathMatch::Exact(_) | PathMatch::Prefix(_) => Source::Literal,
    }
}
