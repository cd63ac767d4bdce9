//! Rewrites of the path.

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::r#type::matcher::v3 as envoy;
use imp_grammar::path::{Pattern, captures, leaving as leaving_segment, matcher};
use imp_grammar::rewrite;

use super::canon::header;
use super::path::{self, Rewrite, regex_matcher};
use crate::ir::{self, rewrite_source};

/// The rewrite; `None` to keep the path.
pub(super) fn render(base: &str, route: &ir::Route) -> Option<Rewrite> {
    if route.strip_base_path {
        let pattern = format!("^{}/?", regex::escape(base));
        return (base != "/").then(|| replace(pattern, "/".to_owned()));
    }
    let to = route.rewrite_path.as_deref()?;
    let target = rewrite::read(to, rewrite_source(&route.path)).ok();
    let Some(target) = target.filter(|target| !target.is_literal()) else {
        return Some(path::rewrite(base, &route.path, to));
    };
    let pattern = match &route.pattern {
        Pattern::Segments(segments) => captures(base, segments, &target.used),
        Pattern::Expression(_) => matcher(base, &route.pattern).expression(),
    };
    Some(replace(format!("^(?:{pattern})$"), target.substitution()))
}

/// Expressions for paths that the route must not take: a variable would leave the directory that the
/// target names.
pub(super) fn leaving(base: &str, route: &ir::Route) -> Vec<String> {
    let to = route.rewrite_path.as_deref().unwrap_or_default();
    let Ok(target) = rewrite::read(to, rewrite_source(&route.path)) else { return Vec::new() };
    let of_group = |(group, is_last): (usize, bool)| match &route.pattern {
        Pattern::Segments(segments) => leaving_segment(base, segments, target.used.get(group - 1)?),
        Pattern::Expression(text) => {
            let text = rewrite::leaving(text, group, is_last)?;
            Some(matcher(base, &Pattern::Expression(text)).expression())
        }
    };
    target.bare_groups().into_iter().filter_map(of_group).collect()
}

/// A rewrite of the path as one expression and what replaces what it matches.
pub(crate) struct Rewritten {
    pub(crate) pattern: String,
    pub(crate) substitution: String,
    /// Whether there are paths that the route must not take: see [`leaving`].
    pub(crate) leaves: bool,
}

/// The same as [`render`] for renderers that have expressions only; `None` to keep the path.
pub(crate) fn rewritten(base: &str, route: &ir::Route) -> Option<Rewritten> {
    let leaves = !leaving(base, route).is_empty();
    let (pattern, substitution) = match render(base, route)? {
        Rewrite::Regex(rule) => {
            (rule.pattern.map(|it| it.regex).unwrap_or_default(), rule.substitution)
        }
        Rewrite::Prefix(to) => match &route.pattern {
            Pattern::Segments(segments) if segments.open => {
                let full = matcher(base, &route.pattern).expression();
                (format!("^{full}"), to)
            }
            _ => ("^.*$".to_owned(), to),
        },
    };
    Some(Rewritten { pattern, substitution, leaves })
}

/// The port that the caller's host names. A proxy in front may have said another one.
pub(super) fn forwarded_port() -> core::HeaderValueOption {
    use core::header_value_option::HeaderAppendAction::AddIfAbsent;
    header("x-forwarded-port", "%CEL(re.capture(request.host, '.*:([0-9]+)'))%", AddIfAbsent)
}

fn replace(pattern: String, substitution: String) -> Rewrite {
    Rewrite::Regex(envoy::RegexMatchAndSubstitute {
        pattern: Some(regex_matcher(pattern)),
        substitution,
    })
}
