//! A reference implementation of `docs/routing.md`: which route takes a call. It shares no code
//! with `imp-grammar`; tests compare the two, and both with Envoy.

use std::cmp::{Ordering, Reverse};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Exact,
    Prefix,
    Template,
    Regex,
}

#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub(crate) kind: Kind,
    pub(crate) path: String,
    pub(crate) priority: i32,
    pub(crate) methods: Vec<String>,
    /// Headers that must have this value.
    pub(crate) headers: Vec<(String, String)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

/// The index of the route that takes the call. If nothing else decides, the text does.
pub(crate) fn pick(rules: &[Rule], call: &Call) -> Option<usize> {
    let taking = rules.iter().enumerate().filter(|(_, rule)| takes(rule, call));
    taking
        .min_by(|(_, a), (_, b)| order(a, b).then(bare(&a.path).cmp(&bare(&b.path))))
        .map(|it| it.0)
}

pub(crate) fn takes(rule: &Rule, call: &Call) -> bool {
    let method = rule.methods.is_empty() || rule.methods.contains(&call.method);
    method
        && rule.headers.iter().all(|it| call.headers.contains(it))
        && takes_path(rule, &call.path)
}

pub(crate) fn takes_path(rule: &Rule, path: &str) -> bool {
    if rule.kind == Kind::Regex {
        return whole(&rule.path, path);
    }
    let written = rule.path.strip_suffix('/').filter(|_| rule.kind == Kind::Prefix);
    let pattern: Vec<_> = written.unwrap_or(&rule.path).split('/').map(bytes).collect();
    let path: Vec<_> = path.split('/').map(bytes).collect();
    for (place, segment) in pattern.iter().enumerate() {
        let Some(text) = path.get(place) else { return false };
        if segment.ends_with(b"+}") && rule.kind == Kind::Template {
            return !path[place..].join(&b'/').is_empty();
        }
        if !fits(segment, text, rule.kind == Kind::Template) {
            return false;
        }
    }
    path.len() == pattern.len() || rule.kind == Kind::Prefix
}

fn whole(expression: &str, path: &str) -> bool {
    use std::{cell::RefCell, collections::HashMap};
    thread_local!(static READ: RefCell<HashMap<String, regex::Regex>> = RefCell::default());
    READ.with_borrow_mut(|read| {
        let whole = || regex::Regex::new(&format!("^(?:{expression})$")).unwrap();
        read.entry(expression.to_owned()).or_insert_with(whole).is_match(path)
    })
}

fn fits(pattern: &[u8], text: &[u8], template: bool) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'{', rest @ ..] if template => {
            let close = rest.iter().position(|b| *b == b'}').unwrap();
            (1..=text.len()).any(|n| fits(&rest[close + 1..], &text[n..], template))
        }
        [byte, rest @ ..] => text.first() == Some(byte) && fits(rest, &text[1..], template),
    }
}

/// Which of two routes is tried first.
pub(crate) fn order(a: &Rule, b: &Rule) -> Ordering {
    let conditions = |rule: &Rule| rule.headers.len() + usize::from(!rule.methods.is_empty());
    let key = |rule: &Rule| (Reverse(rule.priority), class(rule));
    let by_path = || match a.kind {
        Kind::Regex => b.path.len().cmp(&a.path.len()),
        _ if class(a) == 0 => Ordering::Equal,
        _ => steps(a).cmp(&steps(b)),
    };
    key(a).cmp(&key(b)).then_with(by_path).then(conditions(b).cmp(&conditions(a)))
}

fn class(rule: &Rule) -> u8 {
    match rule.kind {
        Kind::Exact => 0,
        Kind::Template if !rule.path.contains('{') => 0,
        Kind::Template | Kind::Prefix => 1,
        Kind::Regex => 2,
    }
}

/// The kind of each segment, and its literal text.
fn steps(rule: &Rule) -> Vec<(u8, Reverse<usize>, Reverse<usize>)> {
    let of = |segment: &str| {
        let text = bytes(&bare(segment).replace("{}", "{")).len() - segment.matches('{').count();
        let leading = bytes(segment.split('{').next().unwrap_or_default()).len();
        match segment {
            _ if !segment.contains('{') => (0, Reverse(0), Reverse(0)),
            _ if segment.ends_with("+}") => (3, Reverse(0), Reverse(0)),
            _ if text > 0 => (1, Reverse(text), Reverse(leading)),
            _ => (2, Reverse(0), Reverse(0)),
        }
    };
    let written = rule.path.strip_suffix('/').filter(|_| rule.kind == Kind::Prefix);
    let end = if rule.kind == Kind::Prefix { 4 } else { 5 };
    let segments = written.unwrap_or(&rule.path).split('/').skip(1).map(of);
    segments.chain([(end, Reverse(0), Reverse(0))]).collect()
}

/// The path without the names of variables.
pub(crate) fn bare(path: &str) -> String {
    let mut parts = path.split('{');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |bare, part| {
        let (name, rest) = part.split_once('}').unwrap_or_default();
        bare + "{" + if name.ends_with('+') { "+" } else { "" } + "}" + rest
    })
}

/// The decoded text.
fn bytes(text: &str) -> Vec<u8> {
    let (mut found, mut rest) = (Vec::new(), text.as_bytes());
    while let [byte, behind @ ..] = rest {
        let hex = behind.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *byte == b'%') {
            Some(escaped) => (found.push(escaped), rest = &behind[2..]),
            None => (found.push(*byte), rest = behind),
        };
    }
    found
}
