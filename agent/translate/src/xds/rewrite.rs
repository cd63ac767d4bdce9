//! What the upstream sees as path.

use std::fmt::Write as _;

use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use imp_grammar::rewrite;

use super::canon::header;
use super::path::{self, Rewrite, regex_matcher};
use crate::ir::{self, PathMatch, rewrite_source};

/// How Envoy is told; None to keep the path.
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
    let pattern = match &route.path {
        PathMatch::Template(template) => captured(base, template, &target.used),
        _ => expression(base, &route.path)?,
    };
    Some(replace(format!("^(?:{pattern})$"), target.substitution()))
}

/// The port that the caller's host names. A proxy in front may have said another one.
pub(super) fn forwarded_port() -> core::HeaderValueOption {
    use core::header_value_option::HeaderAppendAction::AddIfAbsent;
    header("x-forwarded-port", "%CEL(re.capture(request.host, '.*:([0-9]+)'))%", AddIfAbsent)
}

fn replace(pattern: String, substitution: String) -> Rewrite {
    Rewrite::Regex(matcher::RegexMatchAndSubstitute {
        pattern: Some(regex_matcher(pattern)),
        substitution,
    })
}

/// The whole of what a regular expression matches below the base path.
fn expression(base: &str, path: &PathMatch) -> Option<String> {
    match path::specifiers(base, path).pop()? {
        PathSpecifier::SafeRegex(expression) => Some(expression.regex),
        _ => None,
    }
}

/// A template with groups for these of its variables. The path is known to match, so segments of text alone
/// are passed by whatever their spelling.
fn captured(base: &str, template: &str, used: &[&str]) -> String {
    let mut pattern = regex::escape(base.trim_end_matches('/'));
    for segment in template.split('/').skip(1) {
        pattern.push('/');
        if !segment.contains('{') {
            pattern.push_str("[^/]*");
            continue;
        }
        let mut rest = segment;
        while let Some((text, behind)) = rest.split_once('{') {
            let (name, behind) = behind.split_once('}').unwrap_or((behind, ""));
            spell(text, &mut pattern);
            let (name, any) = name.strip_suffix('+').map_or((name, "[^/]+"), |name| (name, ".+"));
            let open = if used.contains(&name) { "(" } else { "(?:" };
            pattern.push_str(open);
            pattern.push_str(any);
            pattern.push(')');
            rest = behind;
        }
        spell(rest, &mut pattern);
    }
    pattern
}

/// Text beside a variable; what is no letter may be percent-encoded.
fn spell(text: &str, pattern: &mut String) {
    for c in text.chars() {
        if c.is_ascii_alphanumeric() || "-._~".contains(c) {
            pattern.push_str(&regex::escape(&c.to_string()));
            continue;
        }
        let mut buffer = [0; 4];
        let mut encoded = String::new();
        for byte in c.encode_utf8(&mut buffer).bytes() {
            // Writing to a string does not fail.
            let _ = write!(encoded, "%{byte:02x}");
        }
        let _ = write!(pattern, "(?:{}|(?i:{encoded}))", regex::escape(&c.to_string()));
    }
}
