//! Paths: matchers of routes, and rewrites for the upstream.

use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::r#type::matcher::v3 as envoy;

use imp_grammar::path::{Matcher, Pattern, matcher, spelled_start};

use crate::ir::PathMatch;

/// The matchers of a route's path under its publish's base path. Never a bare prefix, which would
/// let "/pay" match "/payments", except one that ends with '/'.
pub(super) fn specifiers(base: &str, pattern: &Pattern) -> Vec<PathSpecifier> {
    match matcher(base, pattern) {
        // The base path itself matches with and without a trailing slash.
        Matcher::Exact(path) => match path.strip_suffix('/') {
            Some(bare) if bare == base => [bare.to_owned(), path].map(PathSpecifier::Path).to_vec(),
            _ => vec![PathSpecifier::Path(path)],
        },
        Matcher::Prefix(path) => vec![prefix(&path)],
        Matcher::Expression { text, .. } => vec![regex(text)],
    }
}

pub(super) fn prefix(full: &str) -> PathSpecifier {
    match full.trim_end_matches('/') {
        "" => PathSpecifier::Prefix("/".to_owned()),
        trimmed => PathSpecifier::PathSeparatedPrefix(trimmed.to_owned()),
    }
}

fn join(base: &str, path: &str) -> String {
    if base == "/" { path.to_owned() } else { format!("{base}{path}") }
}

/// A prefix that the path must have besides matching the expression. An expression could continue
/// in the middle of a segment: "1/x" under "/v1" would match "/v11/x", which may be another
/// tenant's. Envoy also checks the prefix first, which costs a twentieth of running the expression.
pub(super) fn fence(base: &str, pattern: &Pattern) -> Option<String> {
    match matcher(base, pattern) {
        Matcher::Expression { start, .. } if start != "/" => Some(start),
        _ => None,
    }
}

pub(super) fn regex_matcher(regex: String) -> envoy::RegexMatcher {
    envoy::RegexMatcher { regex, ..Default::default() }
}

pub(super) fn regex(regex: String) -> PathSpecifier {
    PathSpecifier::SafeRegex(regex_matcher(regex))
}

/// A rewrite for Envoy.
#[derive(Debug, PartialEq)]
pub(super) enum Rewrite {
    /// Replaces the matched prefix.
    Prefix(String),
    /// Replaces what this expression matches.
    Regex(envoy::RegexMatchAndSubstitute),
}

/// Prefix routes replace base path and matched prefix, others the whole path. Envoy joins text to
/// text, so "/v1/pay" -> "/" would give "//1": in that case an expression also matches the slash.
pub(super) fn rewrite(base: &str, path: &PathMatch, to: &str) -> Rewrite {
    let PathMatch::Prefix(path) = path else { return Rewrite::Prefix(to.to_owned()) };
    if let Some(pattern) = Pattern::prefix(path).ok().and_then(|path| spelled_start(base, &path)) {
        let slash = if to.ends_with('/') { "/?" } else { "" };
        return Rewrite::Regex(envoy::RegexMatchAndSubstitute {
            pattern: Some(regex_matcher(format!("^{pattern}{slash}"))),
            substitution: to.to_owned(),
        });
    }
    let full = join(base, path);
    let full = full.trim_end_matches('/');
    if !full.is_empty() && !to.ends_with('/') {
        return Rewrite::Prefix(to.to_owned());
    }
    let substitution = if to.ends_with('/') { to.to_owned() } else { format!("{to}/") };
    Rewrite::Regex(envoy::RegexMatchAndSubstitute {
        pattern: Some(regex_matcher(format!("^{}/?", regex::escape(full)))),
        substitution,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact_path(path: &str) -> PathSpecifier {
        PathSpecifier::Path(path.to_owned())
    }

    fn separated(path: &str) -> PathSpecifier {
        PathSpecifier::PathSeparatedPrefix(path.to_owned())
    }

    #[test]
    fn a_prefix_takes_whole_segments() {
        let prefix = |base, path: &str| specifiers(base, &Pattern::prefix(path).unwrap());
        assert_eq!(prefix("/", "/pay"), [separated("/pay")]);
        assert_eq!(prefix("/", "/pay/"), [separated("/pay")]);
        assert_eq!(prefix("/v1", "/pay"), [separated("/v1/pay")]);
        assert_eq!(prefix("/v1", "/"), [separated("/v1")]);
        assert_eq!(prefix("/", "/"), [PathSpecifier::Prefix("/".into())]);
    }

    #[test]
    fn the_base_path_itself_needs_no_slash() {
        let exact = |base, path: &str| specifiers(base, &Pattern::exact(path).unwrap());
        assert_eq!(exact("/", "/"), [exact_path("/")]);
        assert_eq!(exact("/v1", "/"), [exact_path("/v1"), exact_path("/v1/")]);
        assert_eq!(exact("/v1", "/a"), [exact_path("/v1/a")]);
    }

    #[test]
    fn templates_and_expressions_stay_under_the_base_path() {
        let template = Pattern::template("/a.b/{id}/c").unwrap();
        assert_eq!(specifiers("/v1", &template), [regex(r"/v1/a\.b/[^/]+/c".into())]);
        let anchored = Pattern::Expression("^/x|^/y$".into());
        assert_eq!(specifiers("/v1.0", &anchored), [regex(r"/v1\.0(?:/x|/y$)".into())]);
        assert_eq!(specifiers("/", &anchored), [regex("^/x|^/y$".into())]);
    }

    #[test]
    fn an_expression_cannot_leave_its_base_path() {
        let expression = Pattern::Expression("1/x".into());
        assert_eq!(fence("/v1", &expression).as_deref(), Some("/v1/"));
        assert_eq!(fence("/", &expression), None);
        assert_eq!(fence("/v1", &Pattern::prefix("/x").unwrap()), None, "it ends at a segment");
        let template = |base, path: &str| fence(base, &Pattern::template(path).unwrap());
        assert_eq!(template("/v1", "/users/{id}/x").as_deref(), Some("/v1/users/"));
        assert_eq!(template("/", "/{id}"), None);
        assert_eq!(template("/", "/a"), None, "it has no variable: no expression");
        assert_eq!(template("/", "/a/v{id}").as_deref(), Some("/a/v"));
        assert_eq!(template("/v1", "/a:b/{id}").as_deref(), Some("/v1/a"));
    }

    #[test]
    fn a_rewrite_never_doubles_a_slash() {
        let with = |base, path: &str, to| match rewrite(base, &PathMatch::Prefix(path.into()), to) {
            Rewrite::Prefix(to) => ("prefix".to_owned(), to),
            Rewrite::Regex(r) => (r.pattern.unwrap().regex, r.substitution),
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(with("/v1", "/pay", "/x"), pair("prefix", "/x"));
        assert_eq!(with("/v1", "/pay", "/"), pair("^/v1/pay/?", "/"));
        assert_eq!(with("/v1", "/pay", "/x/"), pair("^/v1/pay/?", "/x/"));
        assert_eq!(with("/", "/", "/x"), pair("^/?", "/x/"));
        assert_eq!(
            rewrite("/v1", &PathMatch::Exact("/pay".into()), "/x"),
            Rewrite::Prefix("/x".into())
        );
        assert_eq!(with("/v1", "/a%20b", "/x"), pair("^/v1/a%20b", "/x"));
        assert_eq!(with("/", "/a:b", "/"), pair("^/a(?::|(?i:%3A))b/?", "/"));
    }
}
