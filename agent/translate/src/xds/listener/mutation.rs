//! Changes of headers that filters of the listener make.

use envoy_types::pb::envoy::config::common::mutation_rules::v3 as rules;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;

/// Removes the headers whose names begin so.
pub(super) fn starts_with(prefix: &str) -> rules::HeaderMutation {
    removed(matcher::string_matcher::MatchPattern::Prefix(prefix.to_owned()))
}

/// Removes the headers with such names; they are in lower case.
pub(super) fn removed(pattern: matcher::string_matcher::MatchPattern) -> rules::HeaderMutation {
    use rules::header_mutation::{Action, RemoveOnMatch};
    let names = matcher::StringMatcher { match_pattern: Some(pattern), ..Default::default() };
    mutation(Action::RemoveOnMatch(RemoveOnMatch { key_matcher: Some(names) }))
}

pub(super) fn mutation(action: rules::header_mutation::Action) -> rules::HeaderMutation {
    rules::HeaderMutation { action: Some(action) }
}
