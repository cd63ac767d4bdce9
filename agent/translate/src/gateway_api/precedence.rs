//! The order of routes: which one a class tries first, and how routes of ours keep their order.
//!
//! Ours is the order of the publish's list. A class has its own precedence, so each pair of routes
//! that one call could meet is compared: where the class would turn it around, Envoy Gateway gets
//! expressions, which it orders by length; others get nothing, and the publish is refused.

use std::cmp::Reverse;

use imp_grammar::classes::{self, Class, Precedence};

use super::entry::{Comparison, Conditions, MAX_PATH, Matches, PathValue};
use super::refusal::{Refusal, class_word, need};

/// Adds nothing to what an expression matches, only to its length.
const PADDING: &str = "(?:)";

/// Makes the class try these routes in the order of the list, or names two that it would not.
/// `name` is the id of a route.
pub(super) fn arrange(
    class: &Class,
    routes: &mut [Matches],
    name: impl Fn(usize) -> String,
) -> Result<(), Refusal> {
    let wrong = |first, second| Refusal::Order {
        first: name(first),
        second: name(second),
        class: class_word(class),
    };
    if class.precedence == Precedence::EnvoyGateway {
        respell_exact(routes);
        for first in (0..routes.len()).rev() {
            put_before(class, routes, first).map_err(|second| wrong(first, second))?;
        }
    }
    for (first, route) in routes.iter().enumerate() {
        for (second, later) in routes.iter().enumerate().skip(first + 1) {
            if meets(route, later) && !is_before(class, route, later) {
                need(class, classes::ROUTE_ORDER, || format!("route {}", name(first)))?;
                return Err(wrong(first, second));
            }
        }
    }
    Ok(())
}

/// Exact paths come first, so one behind a route that may take it becomes an expression.
fn respell_exact(routes: &mut [Matches]) {
    for second in 0..routes.len() {
        let (before, rest) = routes.split_at_mut(second);
        let Some(route) = rest.first_mut() else { continue };
        let is_behind =
            |earlier: &Matches| !is(earlier, Comparison::Exact) && meets(earlier, route);
        if is(route, Comparison::Exact) && before.iter().any(is_behind) {
            respell(route);
        }
    }
}

/// Makes the class try a route before all later ones that it could meet; otherwise returns one of these.
fn put_before(class: &Class, routes: &mut [Matches], first: usize) -> Result<(), usize> {
    let (before, later) = routes.split_at_mut(first + 1);
    let Some(route) = before.last_mut() else { return Ok(()) };
    for (place, other) in later.iter().enumerate() {
        if !meets(route, other) || is_before(class, route, other) {
            continue;
        }
        if is(route, Comparison::Prefix) {
            respell(route);
        }
        if !is(route, Comparison::Expression) {
            return Err(first + 1 + place);
        }
        let longest = longest(other);
        for path in &mut route.paths {
            while path.text.len() <= longest {
                path.text.push_str(PADDING);
            }
            if path.text.len() > MAX_PATH {
                return Err(first + 1 + place);
            }
        }
    }
    Ok(())
}

/// The length of the longest expression of a route.
fn longest(route: &Matches) -> usize {
    let expressions = route.paths.iter().filter(|it| it.comparison == Comparison::Expression);
    expressions.map(|path| path.text.len()).max().unwrap_or_default()
}

fn is(route: &Matches, comparison: Comparison) -> bool {
    route.paths.iter().all(|path| path.comparison == comparison)
}

/// Writes paths as expressions.
fn respell(route: &mut Matches) {
    for path in &mut route.paths {
        let text = match path.comparison {
            Comparison::Exact => regex::escape(&path.text),
            Comparison::Prefix if path.text == "/" => "/.*".to_owned(),
            Comparison::Prefix => format!("{}(?:/.*)?", regex::escape(&path.text)),
            Comparison::Expression => continue,
        };
        *path = PathValue { comparison: Comparison::Expression, text };
    }
}

/// Whether a call could meet both.
fn meets(a: &Matches, b: &Matches) -> bool {
    a.reach.meets(&b.reach)
        && a.conditions.iter().any(|a| b.conditions.iter().any(|b| conditions_meet(a, b)))
}

fn conditions_meet(a: &Conditions, b: &Conditions) -> bool {
    let methods = a.method.is_none() || b.method.is_none() || a.method == b.method;
    let differ = |a: &super::entry::Condition, b: &super::entry::Condition| {
        // Expressions that are written differently are taken for disjoint nowhere here.
        a.name == b.name && !a.is_expression && !b.is_expression && a.value != b.value
    };
    methods && !a.headers.iter().any(|a| b.headers.iter().any(|b| differ(a, b)))
}

/// Whether the class tries every match of the first before every one of the second that a call could
/// meet as well.
fn is_before(class: &Class, first: &Matches, second: &Matches) -> bool {
    let pairs = |a: &Conditions, b: &Conditions| {
        first.paths.iter().all(|of_a| {
            second.paths.iter().all(|of_b| {
                let exact = |path: &PathValue| path.comparison == Comparison::Exact;
                let apart = exact(of_a) && exact(of_b) && of_a.text != of_b.text;
                apart || precedes(class, (of_a, a), (of_b, b))
            })
        })
    };
    first
        .conditions
        .iter()
        .all(|a| second.conditions.iter().all(|b| !conditions_meet(a, b) || pairs(a, b)))
}

fn precedes(class: &Class, a: (&PathValue, &Conditions), b: (&PathValue, &Conditions)) -> bool {
    match class.precedence {
        Precedence::EnvoyGateway => of_envoy_gateway(a) < of_envoy_gateway(b),
        Precedence::GatewayApi => match (of_gateway_api(a), of_gateway_api(b)) {
            (Some(a), Some(b)) => a < b,
            // The order of expressions is up to the class; only exact paths surely come first.
            _ => a.0.comparison == Comparison::Exact && b.0.comparison != Comparison::Exact,
        },
    }
}

/// The length of a prefix that takes every path counts as nothing.
fn length(path: &PathValue) -> usize {
    if path.comparison == Comparison::Prefix && path.text == "/" { 0 } else { path.text.len() }
}

type OfEnvoyGateway = (Comparison, Reverse<usize>, [Reverse<usize>; 3]);

/// A method is a header there.
fn of_envoy_gateway((path, of): (&PathValue, &Conditions)) -> OfEnvoyGateway {
    let method = usize::from(of.method.is_some());
    let exact = of.headers.iter().filter(|it| !it.is_expression).count();
    let counts = [of.headers.len() + method, exact + method, of.query.len()];
    (path.comparison, Reverse(length(path)), counts.map(Reverse))
}

type OfGatewayApi = (Comparison, Reverse<usize>, [Reverse<usize>; 3]);

fn of_gateway_api((path, of): (&PathValue, &Conditions)) -> Option<OfGatewayApi> {
    let counts = [usize::from(of.method.is_some()), of.headers.len(), of.query.len()];
    (path.comparison != Comparison::Expression)
        .then(|| (path.comparison, Reverse(length(path)), counts.map(Reverse)))
}
