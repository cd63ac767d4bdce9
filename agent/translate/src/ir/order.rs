//! The order of a publish's routes: Envoy takes the first one that matches.

use std::collections::HashSet;

use imp_grammar::path::Shape;
use imp_grammar::routes::{self, Condition, Rank, Value};

use super::{Route, ValueMatch, ValueRule};

/// The position by `imp-grammar`'s rank. Routes of one rank are ordered by what they match, then by
/// id, so that two agents render the same.
pub(super) fn place(route: &Route) -> (Rank, Shape, String) {
    let rank = routes::rank(&routes::Route {
        priority: route.priority,
        path: route.pattern.clone(),
        methods: route.methods.iter().map(String::as_str).collect(),
        headers: route.headers.iter().map(condition).collect(),
        query: route.query.iter().map(condition).collect(),
    });
    (rank, route.pattern.shape(), route.id.clone())
}

fn condition(of: &ValueMatch) -> Condition<'_> {
    let value = match &of.rule {
        ValueRule::Exact(value) => Value::Exact(value),
        ValueRule::Prefix(value) => Value::Prefix(value),
        ValueRule::Regex(regex) => Value::Regex(regex),
        ValueRule::Present(present) => Value::Present(*present),
    };
    Condition { name: of.name.clone(), value }
}

/// A route for GET also takes HEAD (RFC 9110, section 9.1), unless another route of its path does.
pub(super) fn head_follows_get(routes: &mut [Route]) {
    const HEAD: &str = "HEAD";
    let takes_head = |route: &&Route| {
        let asks = !route.headers.is_empty() || !route.query.is_empty();
        let any_method = route.methods.is_empty() && !asks;
        any_method || route.methods.iter().any(|method| method == HEAD)
    };
    let routed: HashSet<Shape> =
        routes.iter().filter(takes_head).map(|route| route.pattern.shape()).collect();
    for route in routes.iter_mut().filter(|route| !routed.contains(&route.pattern.shape())) {
        if route.methods.iter().any(|method| method == "GET") {
            route.methods.push(HEAD.to_owned());
        }
    }
}
