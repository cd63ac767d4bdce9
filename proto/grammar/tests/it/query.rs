//! Every spelling of a query parameter matches, and nothing else does.

use imp_grammar::caps;
use imp_grammar::query::{self, Rule};

#[test]
fn a_value_that_fits_is_compiled_by_envoy() {
    // 9 instructions a byte and 40 besides.
    let most = (caps::ENVOY_REGEX_PROGRAM.size() - 40) / 9;
    let value = "ü".repeat((most - 1) / 2);
    assert!(query::fits("n", Rule::Exact(&value)));
    assert!(!query::fits("nn", Rule::Prefix(&format!("{value}ü"))));
}

#[test]
fn every_character_of_a_spelling_is_literal_or_encoded() {
    assert_eq!(
        query::expression("a b", Rule::Exact("+/")),
        r"[^?]*\?(?:[^&]*&)*(?:a|%61)(?:\+|%20)(?:b|%62)=(?:%2[bB])(?:\/|%2[fF])(?:&.*)?"
    );
}

#[test]
fn what_nobody_sends_as_it_is_is_found() {
    assert_eq!(query::never_sent("new york"), Some(' '));
    assert_eq!(query::never_sent("a&b"), Some('&'));
    for fine in ["new(?:%20| )york", "[ a]b", "new%20york", "a+", "("] {
        assert_eq!(query::never_sent(fine), None, "{fine}");
    }
}
