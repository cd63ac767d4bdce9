//! The order of routes is that of a reference which shares no code with it.

use imp_grammar::path::{Matcher, Pattern, matcher};
use imp_grammar::routes::{Condition, Route, Tie, Value, rank, ties};
use proptest::prelude::*;
use proptest::sample::select;

use crate::generated::{call, path, pattern, route, rule};
use crate::reference::{self, Kind, Rule};

/// Whether Envoy would match the path, ignoring conditions.
fn takes(matcher: &Matcher, full: &regex::Regex, path: &str) -> bool {
    match matcher {
        Matcher::Exact(exact) => path == exact,
        Matcher::Prefix(prefix) => path
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        Matcher::Expression { start, .. } => {
            path.starts_with(start.as_str()) && full.is_match(path)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_first_in_the_order_is_the_one_that_the_reference_picks(
        rules in proptest::collection::vec(rule(), 1..12),
        calls in proptest::collection::vec(call(), 1..20),
    ) {
        let mut order: Vec<usize> = (0..rules.len()).collect();
        order.sort_by_key(|at| (rank(&route(&rules[*at])), pattern(&rules[*at]).shape(), *at));
        let tied = ties(rules.iter().map(route), rules.len());
        for call in calls {
            let first = order.iter().copied().find(|at| reference::takes(&rules[*at], &call));
            let picked = reference::pick(&rules, &call);
            let alike = |a: usize, b: usize| {
                reference::order(&rules[a], &rules[b]).is_eq()
                    && tied.iter().any(|Tie { first, second }| [*first, *second].contains(&a.max(b)))
            };
            let agree = first == picked
                || matches!((first, picked), (Some(a), Some(b)) if alike(a, b));
            prop_assert!(agree, "{call:?}: {:?} is not {:?}",
                first.map(|at| &rules[at]), picked.map(|at| &rules[at]));
        }
    }

    #[test]
    fn what_is_rendered_matches_what_the_reference_takes(
        rule in rule(),
        paths in proptest::collection::vec(path(), 1..40),
        base in select(vec!["/", "/v1"]),
    ) {
        let rendered = matcher(base, &pattern(&rule));
        let expression = regex::Regex::new(&format!("^(?:{})$", rendered.expression())).unwrap();
        for path in paths {
            let full = format!("{}{path}", base.trim_end_matches('/'));
            prop_assert_eq!(takes(&rendered, &expression, &full), reference::takes_path(&rule, &path),
                "{} {:?} {:?}", path, rule, rendered);
        }
    }
}

fn rule_of(kind: Kind, path: &str) -> Rule {
    Rule { kind, path: path.into(), priority: 0, methods: vec![], headers: vec![] }
}

#[test]
fn two_routes_of_one_shape_are_tied_whatever_their_variables_are_called() {
    let template = |path| rule_of(Kind::Template, path);
    let exact = |path| rule_of(Kind::Exact, path);
    let prefix = |path| rule_of(Kind::Prefix, path);
    let are_tied = |a: &Rule, b: &Rule| !ties([route(a), route(b)], 9).is_empty();
    for (a, b) in [
        (template("/i/{id}"), template("/i/{item_id}")),
        (template("/i/{id}.json"), template("/i/{item}.json")),
        (template("/i"), exact("/i")),
        (exact("/%61"), exact("/a")),
        (exact("/é"), exact("/%c3%A9")),
        (prefix("/a/"), prefix("/a")),
        (rule_of(Kind::Regex, "/a.*"), rule_of(Kind::Regex, "/a.*")),
    ] {
        assert!(are_tied(&a, &b), "{a:?} {b:?}");
        let other_methods =
            |rule: &Rule, method: &str| Rule { methods: vec![method.into()], ..rule.clone() };
        assert!(!are_tied(&other_methods(&a, "GET"), &other_methods(&b, "POST")));
        assert!(are_tied(&other_methods(&a, "GET"), &other_methods(&b, "GET")));
        assert!(!are_tied(&a, &other_methods(&b, "GET")), "one asks for more");
        assert!(!are_tied(&a, &Rule { priority: 1, ..b.clone() }));
        let with = |rule: &Rule, name: &str, value: &str| Rule {
            headers: vec![(name.into(), value.into())],
            ..rule.clone()
        };
        assert!(!are_tied(&with(&a, "x-v", "1"), &with(&b, "x-v", "2")));
        assert!(are_tied(&with(&a, "x-v", "1"), &with(&b, "x-w", "1")), "a call may have both");
    }
    for (a, b) in [
        (exact("/a"), prefix("/a")),
        (template("/a/{x}"), prefix("/a")),
        (template("/a/{x}"), template("/a/{x+}")),
        (template("/a/{x}"), template("/a/{x}/")),
        (template("/{a}/b"), template("/b/{a}")),
    ] {
        assert!(!are_tied(&a, &b), "{a:?} {b:?}");
    }
}

/// Even for the largest number of routes the check is fast.
#[test]
fn ties_among_as_many_routes_as_a_publish_has_are_found_in_time() {
    let names: Vec<String> = (0..4_000).map(|n| format!("{n}")).collect();
    let routes = names.iter().map(|name| Route {
        priority: 0,
        path: Pattern::exact("/a").unwrap(),
        methods: vec!["GET"],
        headers: vec![Condition { name: "x-v".into(), value: Value::Exact(name) }],
        query: vec![],
    });
    let began = std::time::Instant::now();
    assert_eq!(ties(routes, 9), []);
    assert!(began.elapsed() < std::time::Duration::from_secs(20), "{:?}", began.elapsed());
    eprintln!("{:?}", began.elapsed());
}
