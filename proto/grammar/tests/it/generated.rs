//! Routes and calls that often match each other.

use imp_grammar::path::Pattern;
use imp_grammar::routes::{Condition, Route, Value};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::reference::{Call, Kind, Rule};

pub(crate) fn pattern(rule: &Rule) -> Pattern {
    match rule.kind {
        Kind::Exact => Pattern::exact(&rule.path).unwrap(),
        Kind::Prefix => Pattern::prefix(&rule.path).unwrap(),
        Kind::Template => Pattern::template(&rule.path).unwrap(),
        Kind::Regex => Pattern::Expression(rule.path.clone()),
    }
}

pub(crate) fn route(rule: &Rule) -> Route<'_> {
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
pub(crate) fn path() -> impl Strategy<Value = String> {
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
