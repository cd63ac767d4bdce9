//! Routes keep their order: the rendered matches, in the order in which Envoy Gateway tries them,
//! take the calls that the reference says.

use std::cmp::Reverse;

use imp_grammar::routes;
use imp_translate::gateway_api::{Plan, Refusal};
use proptest::prelude::Strategy as _;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use regex::Regex;
use serde_json::Value;

use crate::envoy::routing::publish;
use crate::fixtures::{self, parsed};
use crate::generated;
use crate::golden::objects::{envoy_gateway, options};
use crate::reference::{Call, Rule, pick};

/// One match of one rule.
struct Match {
    /// The host that the rule rewrites to; none for answers.
    leads_to: Option<String>,
    path: (u8, String),
    expression: Option<Regex>,
    method: Option<String>,
    headers: Vec<(String, String)>,
}

impl Match {
    fn takes(&self, call: &Call) -> bool {
        let (kind, text) = &self.path;
        let path = match kind {
            0 => call.path == *text,
            1 => self.expression.as_ref().unwrap().is_match(&call.path),
            _ => text == "/" || call.path == *text || call.path.starts_with(&format!("{text}/")),
        };
        path && self.method.as_ref().is_none_or(|method| *method == call.method)
            && self.headers.iter().all(|header| call.headers.contains(header))
    }
}

fn text(json: &Value, pointer: &str) -> String {
    json.pointer(pointer).unwrap().as_str().unwrap().to_owned()
}

/// All matches, as Envoy Gateway 1.9 sorts them.
fn sorted(objects: &[Value]) -> Vec<Match> {
    let mut all = Vec::new();
    // Where it says nothing, the older object comes first: answers may be.
    for route in objects.iter().rev().filter(|object| object["kind"] == "HTTPRoute") {
        for rule in route["spec"]["rules"].as_array().unwrap() {
            for json in rule["matches"].as_array().unwrap() {
                let kind = match text(json, "/path/type").as_str() {
                    "Exact" => 0,
                    "RegularExpression" => 1,
                    _ => 2,
                };
                let filters = rule.get("filters").and_then(Value::as_array);
                let filters = filters.map_or(&[][..], |list| list.as_slice());
                let host = |it: &Value| Some(it.pointer("/urlRewrite/hostname")?.to_string());
                let headers = json.get("headers").and_then(Value::as_array);
                let pair = |it: &Value| (text(it, "/name"), text(it, "/value"));
                let path = (kind, text(json, "/path/value"));
                let whole = || Regex::new(&format!("^(?:{})$", path.1)).unwrap();
                all.push(Match {
                    expression: (kind == 1).then(whole),
                    leads_to: filters.iter().find_map(host),
                    path,
                    method: json.get("method").map(|it| it.as_str().unwrap().to_owned()),
                    headers: headers.into_iter().flatten().map(pair).collect(),
                });
            }
        }
    }
    all.sort_by_key(|it| {
        let length = if it.path == (2, "/".to_owned()) { 0 } else { it.path.1.len() };
        let headers = it.headers.len() + usize::from(it.method.is_some());
        (it.path.0, Reverse(length), Reverse(headers))
    });
    all
}

#[test]
fn envoy_gateway_takes_the_route_that_the_reference_picks_or_the_publish_is_refused() {
    let mut runner = TestRunner::deterministic();
    let any_rules = [2, 5, 12].map(|count| proptest::collection::vec(generated::rule(), count));
    let any_call = generated::call();
    let (mut rendered, mut refused, mut answered) = (0, 0, 0);
    for round in 0..300 {
        let rules = any_rules[round % 3].new_tree(&mut runner).unwrap().current();
        let base = ["/", "/v1"][round % 2];
        let tied = routes::ties(rules.iter().map(generated::route), rules.len());
        let is_tied = |at: usize| tied.iter().any(|tie| tie.second == at);
        let rules: Vec<Rule> =
            (0..rules.len()).filter(|at| !is_tied(*at)).map(|at| rules[at].clone()).collect();
        let mut plan = Plan::new(options());
        plan.set_gateway(&fixtures::parsed_gateway(80), envoy_gateway()).unwrap();
        let objects = match plan.set_publish(&parsed(&publish(&rules, base, 1, 9000))) {
            Ok(objects) => objects,
            Err(Refusal::Order { .. } | Refusal::Unsaid { .. }) => {
                refused += 1;
                continue;
            }
            Err(refusal) => panic!("{refusal}"),
        };
        rendered += 1;
        let all = sorted(&objects);
        for _ in 0..60 {
            let call = any_call.new_tree(&mut runner).unwrap().current();
            let expected = pick(&rules, &call).map(|at| format!("\"r{at}.route.test\""));
            let base = base.trim_end_matches('/');
            let sent = Call { path: format!("{base}{}", call.path), ..call.clone() };
            let first = all.iter().find(|it| it.takes(&sent)).expect("the end takes everything");
            assert_eq!(first.leads_to, expected, "{sent:?} {rules:#?}");
            answered += usize::from(expected.is_some());
        }
    }
    assert!(rendered > 150, "{rendered} rendered, {refused} refused");
    assert!(answered > 2_000, "{answered} answered by routes");
}
