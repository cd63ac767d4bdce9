//! Changes of headers by the listener's filters.

use envoy_types::pb::envoy::config::common::mutation_rules::v3 as rules;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;

/// Removes the headers with this prefix.
pub(super) fn starts_with(prefix: &str) -> rules::HeaderMutation {
    removed(matcher::string_matcher::MatchPattern::Prefix(prefix.to_owned()))
}

/// Removes the headers whose names, in lower case, match.
pub(super) fn removed(pattern: matcher::string_matcher::MatchPattern) -> rules::HeaderMutation {
    use rules::header_mutation::{Action, RemoveOnMatch};
    let names = matcher::StringMatcher { match_pattern: Some(pattern), ..Default::default() };
    mutation(Action::RemoveOnMatch(RemoveOnMatch { key_matcher: Some(names) }))
}

pub(super) fn mutation(action: rules::header_mutation::Action) -> rules::HeaderMutation {
    rules::HeaderMutation { action: Some(action) }
}
