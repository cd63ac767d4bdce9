//! The order of routes is that of a reference which shares no code with it.

use imp_grammar::path::{Matcher, Pattern, matcher};
use imp_grammar::routes::{Condition, Route, Tie, Value, rank, ties};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::reference::{self, Call, Kind, Rule};

fn pattern(rule: &Rule) -> Pattern {
    match rule.kind {
        Kind::Exact => Pattern::exact(&rule.path).unwrap(),
        Kind::Prefix => Pattern::prefix(&rule.path).unwrap(),
        Kind::Template => Pattern::template(&rule.path).unwrap(),
        Kind::Regex => Pattern::Expression(rule.path.clone()),
    }
}

fn route(rule: &Rule) -> Route<'_> {
    Route {
        priority: rule.priority,
        path: pattern(rule),
        methods: rule.methods.iter().map(String::as_str).collect(),
        headers: rule
            .headers
            .iter()
            .map(|(name, value)| Condition { name: name.clone(), value: Value::Exact(value) })
            .collect(),
        query: Vec::new(),
    }
}

fn segment() -> impl Strategy<Value = String> {
    let all = vec![
        "a", "b", "a.b", "a-b", "a.json", "{x}", "{y}.json", "a{z}", "{v}-{w}", "a-{u}", "%61",
        "%20", "é", "%C3%A9", "a:b", "{name}:b", "(c)",
    ];
    select(all).prop_map(str::to_owned)
}

fn named_apart(path: &str) -> String {
    let mut count = 0;
    let rename = |part: (usize, &str)| match part {
        (0, text) => text.to_owned(),
        (_, part) => {
            let (name, rest) = part.split_once('}').unwrap();
            count += 1;
            format!("{{{name}{count}}}{rest}")
        }
    };
    path.split('{').enumerate().map(rename).collect()
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    let segments = proptest::collection::vec(segment(), 0..4);
    let kind = select(vec![Kind::Exact, Kind::Prefix, Kind::Template, Kind::Template, Kind::Regex]);
    let end = select(vec!["", "", "", "/", "/{rest+}"]);
    let methods = subsequence(vec!["GET".to_owned(), "POST".to_owned()], 0..=1);
    let headers =
        subsequence(vec![("x-a".to_owned(), "1".into()), ("x-b".into(), "2".into())], 0..=2);
    (kind, segments, end, 0..2_i32, methods, headers).prop_map(
        |(kind, segments, end, priority, methods, headers)| {
            let joined = format!("/{}", segments.join("/"));
            let literal = joined.replace(['{', '}'], "");
            let path = match (kind, end) {
                (Kind::Template, "/") if joined != "/" => named_apart(&joined) + end,
                (Kind::Template, _) if joined != "/" && end != "/" => named_apart(&joined) + end,
                (Kind::Template, _) => joined,
                (Kind::Regex, _) => select_regex(segments.len()),
                _ => literal,
            };
            Rule { kind, path, priority, methods, headers }
        },
    )
}

fn select_regex(seed: usize) -> String {
    ["/a/.*", "/[ab](/.*)?", "/.*", "/a(?:.json)?|/b"][seed].to_owned()
}

/// Paths as Envoy's normalisation leaves them.
fn path() -> impl Strategy<Value = String> {
    let words = vec![
        "a", "b", "a.b", "a-b", "a.json", "b.json", "-", "a-", "xz", "ax", "a%20", "%20", "%C3%A9",
        "%c3%a9", "a:b", "a%3Ab", "a%3ab", "x:b", "(c)", "%28c%29", "", "x",
    ];
    proptest::collection::vec(select(words), 1..5).prop_map(|words| {
        let path = format!("/{}", words.join("/"));
        let mut merged = path.replace("//", "/");
        while merged.contains("//") {
            merged = merged.replace("//", "/");
        }
        merged
    })
}

pub(crate) fn call() -> impl Strategy<Value = Call> {
    let headers =
        subsequence(vec![("x-a".to_owned(), "1".into()), ("x-b".into(), "2".into())], 0..=2);
    (select(vec!["GET", "POST", "PUT"]), path(), headers).prop_map(|(method, path, headers)| Call {
        method: method.into(),
        path,
        headers,
    })
}

/// As Envoy would judge, without the conditions.
fn takes(matcher: &Matcher, path: &str) -> bool {
    match matcher {
        Matcher::Exact(exact) => path == exact,
        Matcher::Prefix(prefix) => path
            .strip_prefix(prefix.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        Matcher::Expression { text, start } => {
            let full = regex::Regex::new(&format!("^(?:{text})$")).unwrap();
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
        for path in paths {
            let full = format!("{}{path}", base.trim_end_matches('/'));
            prop_assert_eq!(takes(&rendered, &full), reference::takes_path(&rule, &path),
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

/// However many routes of a path there are: an answer comes soon.
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
