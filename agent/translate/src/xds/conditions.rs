//! Conditions of a route on headers and query parameters.

use envoy_types::pb::envoy::config::route::v3 as envoy;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use imp_grammar::query::{self, Rule};

use super::path::regex_matcher;
use crate::ir;

/// A condition on a header. A host also matches with a port after it.
pub(super) fn header(rule: &ir::ValueMatch) -> envoy::HeaderMatcher {
    use envoy::header_matcher::HeaderMatchSpecifier::{PresentMatch, StringMatch};
    let own = if rule.name == "host" { with_port(&rule.rule) } else { None };
    envoy::HeaderMatcher {
        name: rule.name.clone(),
        header_match_specifier: Some(match string(own.as_ref().unwrap_or(&rule.rule)) {
            Ok(matcher) => StringMatch(matcher),
            Err(present) => PresentMatch(present),
        }),
        ..Default::default()
    }
}

/// That the path, or the query, contains this, in either case.
pub(super) fn path_contains(text: &str) -> envoy::HeaderMatcher {
    use envoy::header_matcher::HeaderMatchSpecifier::StringMatch;
    use matcher::string_matcher::MatchPattern::Contains;
    envoy::HeaderMatcher {
        name: ":path".to_owned(),
        header_match_specifier: Some(StringMatch(matcher::StringMatcher {
            match_pattern: Some(Contains(text.to_owned())),
            ignore_case: true,
        })),
        ..Default::default()
    }
}

fn with_port(rule: &ir::ValueRule) -> Option<ir::ValueRule> {
    let host = match rule {
        ir::ValueRule::Exact(host) => regex::escape(host),
        ir::ValueRule::Regex(expression) => format!("(?:{expression})"),
        ir::ValueRule::Prefix(_) | ir::ValueRule::Present(_) => return None,
    };
    Some(ir::ValueRule::Regex(format!("{host}(?::[0-9]+)?")))
}

/// A condition on a decoded query parameter, as a condition on the request target. `None`: see
/// [`as_sent`].
pub(super) fn spelled(rule: &ir::ValueMatch) -> Option<envoy::HeaderMatcher> {
    let (expected, invert) = decoded(rule)?;
    let expression = query::expression(&rule.name, expected);
    let path = ir::ValueMatch { name: ":path".to_owned(), rule: ir::ValueRule::Regex(expression) };
    Some(envoy::HeaderMatcher { invert_match: invert, ..header(&path) })
}

/// A condition that Envoy compares with the raw query: expressions are defined that way, and values
/// too long to be matched in all encodings were accepted by a former release.
pub(super) fn as_sent(rule: &ir::ValueMatch) -> Option<envoy::QueryParameterMatcher> {
    use envoy::query_parameter_matcher::QueryParameterMatchSpecifier::{PresentMatch, StringMatch};
    if decoded(rule).is_some() {
        return None;
    }
    Some(envoy::QueryParameterMatcher {
        name: rule.name.clone(),
        query_parameter_match_specifier: Some(match string(&rule.rule) {
            Ok(matcher) => StringMatch(matcher),
            Err(present) => PresentMatch(present),
        }),
    })
}

/// The rule, and whether it is negated.
fn decoded(rule: &ir::ValueMatch) -> Option<(Rule<'_>, bool)> {
    let (expected, invert) = match &rule.rule {
        ir::ValueRule::Exact(text) => (Rule::Exact(text), false),
        ir::ValueRule::Prefix(text) => (Rule::Prefix(text), false),
        ir::ValueRule::Present(present) => (Rule::Present, !present),
        ir::ValueRule::Regex(_) => return None,
    };
    query::fits(&rule.name, expected).then_some((expected, invert))
}

fn string(rule: &ir::ValueRule) -> Result<matcher::StringMatcher, bool> {
    use matcher::string_matcher::MatchPattern;
    let pattern = match rule {
        ir::ValueRule::Exact(text) => MatchPattern::Exact(text.clone()),
        ir::ValueRule::Prefix(text) => MatchPattern::Prefix(text.clone()),
        ir::ValueRule::Regex(regex) => MatchPattern::SafeRegex(regex_matcher(regex.clone())),
        ir::ValueRule::Present(present) => return Err(*present),
    };
    Ok(matcher::StringMatcher { match_pattern: Some(pattern), ..Default::default() })
}
