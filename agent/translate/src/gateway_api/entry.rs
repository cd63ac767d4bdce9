//! What a route of ours matches, in Gateway API's terms.

use imp_grammar::classes::{self, Class};
use imp_grammar::path::{Matcher, Pattern, matcher};
use imp_grammar::regexes;
use serde_json::{Value, json};

use super::reach::Reach;
use super::refusal::{Refusal, need};
use crate::ir::{self, METHODS, ValueRule};

/// The most bytes of a path, of any type.
pub(super) const MAX_PATH: usize = 1_024;
/// The most conditions of each kind in one match.
const MAX_CONDITIONS: usize = 16;
/// The most bytes of a header's value, and of a parameter's.
const MAX_HEADER: usize = 4_096;
const MAX_PARAMETER: usize = 1_024;

/// How a path is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Comparison {
    Exact,
    Expression,
    Prefix,
}

/// A path of a match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathValue {
    pub(super) comparison: Comparison,
    pub(super) text: String,
}

/// A condition on a header or a query parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) name: String,
    pub(super) is_expression: bool,
    pub(super) value: String,
}

/// The conditions of one match beside its path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    pub(super) method: Option<&'static str>,
    pub(super) headers: Vec<Condition>,
    pub(super) query: Vec<Condition>,
}

/// What a route matches: every path with every one of the conditions.
#[derive(Clone, Debug)]
pub(super) struct Matches {
    /// One; two where a base path is matched with and without a slash.
    pub(super) paths: Vec<PathValue>,
    pub(super) conditions: Vec<Conditions>,
    pub(super) reach: Reach,
}

impl Matches {
    /// Refuses what the class cannot match.
    pub(super) fn of(class: &Class, base: &str, route: &ir::Route) -> Result<Self, Refusal> {
        let at = || format!("route {}", route.id);
        Ok(Self {
            paths: paths(class, base, &route.pattern, &at)?,
            conditions: conditions(class, route, &at)?,
            reach: Reach::of(base, &route.pattern),
        })
    }

    /// How many matches of Gateway API it is.
    pub(super) fn len(&self) -> usize {
        self.paths.len() * self.conditions.len()
    }

    pub(super) fn json(&self) -> Vec<Value> {
        let all = self.paths.iter();
        all.flat_map(|path| self.conditions.iter().map(move |of| json_of(path, of))).collect()
    }
}

/// One match.
pub(super) fn json_of(path: &PathValue, of: &Conditions) -> Value {
    let comparison = match path.comparison {
        Comparison::Exact => "Exact",
        Comparison::Expression => "RegularExpression",
        Comparison::Prefix => "PathPrefix",
    };
    let mut json = json!({ "path": { "type": comparison, "value": path.text } });
    if let Some(method) = of.method {
        super::object::set(&mut json, "method", json!(method));
    }
    for (field, list) in [("headers", &of.headers), ("queryParams", &of.query)] {
        if !list.is_empty() {
            let list: Vec<_> = list.iter().map(condition_json).collect();
            super::object::set(&mut json, field, json!(list));
        }
    }
    json
}

fn condition_json(condition: &Condition) -> Value {
    let comparison = if condition.is_expression { "RegularExpression" } else { "Exact" };
    json!({ "name": condition.name, "type": comparison, "value": condition.value })
}

fn paths(
    class: &Class,
    base: &str,
    pattern: &Pattern,
    at: &impl Fn() -> String,
) -> Result<Vec<PathValue>, Refusal> {
    let path = |comparison, text: &str| PathValue { comparison, text: text.to_owned() };
    let paths = match matcher(base, pattern) {
        Matcher::Exact(text) => match text.strip_suffix('/') {
            Some(bare) if bare == base => {
                vec![path(Comparison::Exact, bare), path(Comparison::Exact, &text)]
            }
            _ => vec![path(Comparison::Exact, &text)],
        },
        Matcher::Prefix(text) => match text.trim_end_matches('/') {
            "" => vec![path(Comparison::Prefix, "/")],
            trimmed => vec![path(Comparison::Prefix, trimmed)],
        },
        Matcher::Expression { text, start } => {
            need(class, classes::EXPRESSION_PATHS, at)?;
            if start != "/" && !regexes::always_begins_with(&text, &start) {
                let why = "its expression could leave the base path: begin it with '/'";
                return Err(Refusal::unsaid(at(), why));
            }
            vec![path(Comparison::Expression, &text)]
        }
    };
    match paths.iter().all(|path| path.text.len() <= MAX_PATH) {
        true => Ok(paths),
        false => Err(Refusal::unsaid(at(), "its path has more than 1,024 bytes for Gateway API")),
    }
}

fn conditions(
    class: &Class,
    route: &ir::Route,
    at: &impl Fn() -> String,
) -> Result<Vec<Conditions>, Refusal> {
    let mut headers = Vec::with_capacity(route.headers.len());
    for header in &route.headers {
        headers.push(of_header(class, header, at)?);
    }
    let mut query = Vec::with_capacity(route.query.len());
    for parameter in &route.query {
        query.push(of_parameter(class, parameter, at)?);
    }
    if headers.len() > MAX_CONDITIONS || query.len() > MAX_CONDITIONS {
        let why = "Gateway API takes 16 conditions on headers and 16 on query parameters";
        return Err(Refusal::unsaid(at(), why));
    }
    if !route.methods.is_empty() {
        need(class, classes::METHODS, at)?;
    }
    let plain = Conditions { method: None, headers, query };
    let with = |method: &&'static str| Conditions { method: Some(method), ..plain.clone() };
    let named: Vec<_> =
        METHODS.iter().filter(|it| route.methods.iter().any(|named| named == **it)).collect();
    let mut all: Vec<_> = named.iter().map(|method| with(method)).collect();
    if all.is_empty() {
        all.push(plain.clone());
    }
    let is_met = route.methods.is_empty() && route.headers.is_empty();
    if route.policies.cors.is_some() && !is_met {
        let asked = if named.is_empty() { METHODS.iter().collect() } else { named };
        all.extend(asked.into_iter().map(|method| preflight(method, &plain.query)));
    }
    Ok(all)
}

/// Preflights have neither the method nor the headers of the call that they ask for.
fn preflight(method: &str, query: &[Condition]) -> Conditions {
    let condition = |name: &str, is_expression, value: &str| Condition {
        name: name.to_owned(),
        is_expression,
        value: value.to_owned(),
    };
    Conditions {
        method: Some("OPTIONS"),
        headers: vec![
            condition("origin", true, ".+"),
            condition("access-control-request-method", false, method),
        ],
        query: query.to_vec(),
    }
}

fn of_header(
    class: &Class,
    rule: &ir::ValueMatch,
    at: &impl Fn() -> String,
) -> Result<Condition, Refusal> {
    // A host is also matched with a port behind it.
    let port = if rule.name == "host" { "(?::[0-9]+)?" } else { "" };
    let (is_expression, value) = match &rule.rule {
        ValueRule::Exact(text) if port.is_empty() => (false, text.clone()),
        ValueRule::Exact(text) => (true, format!("{}{port}", regex::escape(text))),
        ValueRule::Prefix(text) => (true, format!("{}.*", regex::escape(text))),
        ValueRule::Regex(text) if port.is_empty() => (true, text.clone()),
        ValueRule::Regex(text) => (true, format!("(?:{text}){port}")),
        ValueRule::Present(true) => (true, ".*".to_owned()),
        ValueRule::Present(false) => {
            need(class, classes::HEADER_ABSENCE, at)?;
            return Err(Refusal::unsaid(at(), "Gateway API has no condition on absence"));
        }
    };
    if is_expression {
        need(class, classes::HEADER_EXPRESSIONS, at)?;
    }
    if !is_header_value(&value) || value.len() > MAX_HEADER {
        let why = "Gateway API takes header values of visible ASCII with single blanks only";
        return Err(Refusal::unsaid(format!("{}, header {}", at(), rule.name), why));
    }
    Ok(Condition { name: rule.name.clone(), is_expression, value })
}

/// The values that Gateway API takes, in conditions and in changes of headers.
pub(super) fn is_header_value(text: &str) -> bool {
    let visible = |b: u8| (b'!'..=b'~').contains(&b);
    let blank = |b: u8| b == b' ' || b == b'\t';
    let bytes = text.as_bytes();
    let ends =
        bytes.first().is_some_and(|b| visible(*b)) && bytes.last().is_some_and(|b| visible(*b));
    ends && bytes.iter().all(|b| visible(*b) || blank(*b))
        && !bytes.windows(2).any(|pair| pair.iter().all(|b| blank(*b)))
}

fn of_parameter(
    class: &Class,
    rule: &ir::ValueMatch,
    at: &impl Fn() -> String,
) -> Result<Condition, Refusal> {
    let ValueRule::Regex(value) = &rule.rule else {
        // Callers may encode a value in many ways, and Gateway API compares what was sent.
        need(class, classes::QUERY_VALUES, at)?;
        return Err(Refusal::unsaid(at(), "Gateway API compares parameters as they are sent"));
    };
    need(class, classes::QUERY_EXPRESSIONS, at)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !rule.name.bytes().all(plain) || value.len() > MAX_PARAMETER {
        let why = "Gateway API takes names of tokens and values of 1,024 bytes";
        return Err(Refusal::unsaid(format!("{}, parameter {}", at(), rule.name), why));
    }
    Ok(Condition { name: rule.name.clone(), is_expression: true, value: value.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_those_of_the_crd() {
        for good in ["a", "a b", "a\tb", "%%", "text/html; q=1"] {
            assert!(is_header_value(good), "{good:?}");
        }
        for bad in ["", " a", "a ", "a  b", "é", "a\u{7f}"] {
            assert!(!is_header_value(bad), "{bad:?}");
        }
    }
}
