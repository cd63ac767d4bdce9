//! Spreads rules over `HTTPRoute`s, which have 16 rules at most.

use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The bounds of one `HTTPRoute`; a little less than the CRD's and the API server's.
const MAX_RULES: usize = 16;
const MAX_MATCHES: usize = 128;
const MAX_BYTES: usize = 256 * 1_024;

/// A rule to place.
pub(super) struct Rule {
    /// The name of the rule in its `HTTPRoute`, and what decides about its place.
    pub(super) name: String,
    pub(super) matches: usize,
    pub(super) json: Value,
    /// The route, if it has a limit of its own.
    pub(super) limited: Option<String>,
}

/// The rules by the number of their `HTTPRoute`. A rule's place follows from its name alone, so that
/// a change moves no other rule, unless the number of `HTTPRoute`s changes, which then doubles.
pub(super) fn spread(rules: Vec<Rule>) -> Vec<Vec<Rule>> {
    let sizes: Vec<_> = rules
        .iter()
        .map(|rule| (place(&rule.name), rule.matches, rule.json.to_string().len()))
        .collect();
    let mut count = 1;
    // Two rules with one place could never be apart; a rule alone always fits.
    while count < u64::from(u16::MAX) && !fits(&sizes, count) {
        count *= 2;
    }
    let mut spread: Vec<Vec<Rule>> = Vec::new();
    spread.resize_with(usize::try_from(count).unwrap_or(1), Vec::new);
    for (rule, (place, ..)) in rules.into_iter().zip(&sizes) {
        if let Some(of) = usize::try_from(place % count).ok().and_then(|at| spread.get_mut(at)) {
            of.push(rule);
        }
    }
    spread
}

fn fits(sizes: &[(u64, usize, usize)], count: u64) -> bool {
    let mut used = vec![(0, 0, 0); usize::try_from(count).unwrap_or(1)];
    sizes.iter().all(|(place, matches, bytes)| {
        let of = usize::try_from(place % count).ok().and_then(|at| used.get_mut(at));
        of.is_some_and(|of| {
            *of = (of.0 + 1, of.1 + matches, of.2 + bytes);
            of.0 <= MAX_RULES && of.1 <= MAX_MATCHES && of.2 <= MAX_BYTES
        })
    })
}

fn place(name: &str) -> u64 {
    let digest = Sha256::digest(name.as_bytes());
    digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(count: usize, matches: usize) -> Vec<Rule> {
        let rule =
            |index| Rule { name: format!("r-{index}"), matches, json: json!({}), limited: None };
        (0..count).map(rule).collect()
    }

    fn places(spread: &[Vec<Rule>]) -> std::collections::BTreeMap<String, usize> {
        let all = spread.iter().enumerate();
        all.flat_map(|(place, rules)| rules.iter().map(move |rule| (rule.name.clone(), place)))
            .collect()
    }

    #[test]
    fn no_http_route_has_more_than_its_bounds_and_every_rule_has_a_place() {
        for (count, matches) in [(1, 1), (16, 1), (17, 1), (2_000, 1), (100, 64), (3, 64)] {
            let spread = spread(rules(count, matches));
            assert_eq!(places(&spread).len(), count);
            for of in &spread {
                assert!(of.len() <= MAX_RULES && of.len() * matches <= MAX_MATCHES);
            }
        }
        assert_eq!(spread(rules(16, 1)).len(), 1);
    }

    #[test]
    fn a_rule_more_moves_no_other() {
        let (before, after) = (places(&spread(rules(100, 1))), places(&spread(rules(101, 1))));
        let moved = before.iter().filter(|(name, place)| after.get(*name) != Some(place)).count();
        assert_eq!(moved, 0);
    }
}
