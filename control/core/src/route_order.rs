//! Refuses routes whose order would be arbitrary, within a service and among the services of a
//! publish.

use imp_grammar::caps;
use imp_grammar::routes::{self, Condition, Value};

use crate::Violations;
use crate::route::{Route, ValueMatch, ValueRule};

/// Two routes that could match the same calls, each with the index of its service.
#[derive(Clone, Copy, Debug)]
pub struct Tie<'a> {
    /// The earlier one.
    pub first: (usize, &'a Route),
    /// The later one.
    pub second: (usize, &'a Route),
}

/// The first tie among the routes of several services.
pub fn tie<'a>(services: &[&'a [Route]]) -> Option<Tie<'a>> {
    let of_service = |(service, routes): (usize, &&'a [Route])| {
        let routes: &'a [Route] = routes;
        routes.iter().map(move |route| (service, route))
    };
    let all = services.iter().enumerate().flat_map(of_service);
    let all: Vec<_> = all.filter_map(|of| Some((of, ranked(of.1)?))).collect();
    let tie = routes::ties(all.iter().map(|(_, ranked)| ranked.clone()), 1).pop()?;
    Some(Tie { first: all.get(tie.first)?.0, second: all.get(tie.second)?.0 })
}

/// Records each route that an earlier one of the service is tied with.
pub(crate) fn check(list: &[Route], v: &mut Violations) {
    let ranked: Vec<_> =
        list.iter().enumerate().filter_map(|(i, r)| Some((i, ranked(r)?))).collect();
    let ties = routes::ties(ranked.iter().map(|(_, r)| r.clone()), caps::FAULTS_TOLD.size());
    v.within("routes", |v| {
        for tie in ties {
            let place = |at: usize| ranked.get(at).map(|(index, _)| *index);
            let (Some(first), Some(second)) = (place(tie.first), place(tie.second)) else {
                continue;
            };
            let Some(first) = list.get(first) else { continue };
            v.within(second, |v| v.add("path", "ambiguous_route", words(&first.name)));
        }
    });
}

fn words(other: &str) -> String {
    format!(
        "route '{other}' takes the same paths, and no method or condition tells their calls apart: \
         give one of them a higher `priority`"
    )
}

/// `None` if a path or condition is invalid by itself.
fn ranked(route: &Route) -> Option<routes::Route<'_>> {
    Some(routes::Route {
        priority: route.priority,
        path: route.path.pattern().ok()?,
        methods: route.methods.iter().map(String::as_str).collect(),
        headers: route
            .headers
            .iter()
            .map(|header| condition(header, true))
            .collect::<Option<_>>()?,
        query: route
            .query
            .iter()
            .map(|parameter| condition(parameter, false))
            .collect::<Option<_>>()?,
    })
}

fn condition(of: &ValueMatch, is_header: bool) -> Option<Condition<'_>> {
    let value = match &of.value {
        ValueRule::Exact(value) => Value::Exact(value),
        ValueRule::Prefix(value) => Value::Prefix(value),
        ValueRule::Regex(regex) => Value::Regex(regex),
        ValueRule::Present(present) => Value::Present(*present),
        ValueRule::Newer(_) => return None,
    };
    let name = if is_header { of.name.to_ascii_lowercase() } else { of.name.clone() };
    Some(Condition { name, value })
}
