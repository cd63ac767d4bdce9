//! The examples of `docs/routing.md` are true.

use std::path::Path;

use imp_grammar::path::{Pattern, advice};
use imp_grammar::regexes;
use imp_translate::Layout;

use super::rig::Rig;
use super::routing::{Caller, publish};
use crate::fixtures::{self, parsed};
use crate::reference::{Call, Kind, Rule, pick};

/// The rows of the table whose header begins with this, cell by cell.
fn table(head: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/routing.md");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with(head));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let row = row.replace("\\|", "\u{0}");
        let cells = row.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('\u{0}', "|")).collect()
    };
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(rows.len() > 5, "{head}: {rows:?}");
    rows
}

/// The texts between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// ``template `/a/{b}` ``.
fn rule(words: &str) -> Rule {
    let kind = match words.trim().split(' ').next().unwrap() {
        "exact" => Kind::Exact,
        "prefix" => Kind::Prefix,
        "template" => Kind::Template,
        "regex" => Kind::Regex,
        other => panic!("{other}"),
    };
    let path = quoted(words).remove(0);
    Rule { kind, path, priority: 0, methods: vec![], headers: vec![] }
}

/// Whether the API accepts it, and its message.
fn judged(rule: &Rule) -> Result<(), String> {
    let read = match rule.kind {
        Kind::Regex => {
            return regexes::check_path(&rule.path).map_err(|fault| fault.to_string());
        }
        Kind::Exact => Pattern::exact(&rule.path),
        Kind::Prefix => Pattern::prefix(&rule.path),
        Kind::Template => Pattern::template(&rule.path),
    };
    let checked = read.and_then(|pattern| advice::check(&rule.path, &pattern));
    checked.map_err(|fault| fault.to_string())
}

struct Stage {
    rig: Rig,
    revision: u64,
}

impl Stage {
    async fn open() -> Self {
        let mut rig = Rig::start(Layout::ScopedRoutes).await;
        let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
        rig.apply(&delta);
        Self { rig, revision: 0 }
    }

    async fn serve(&mut self, rules: &[Rule], base: &str) -> Caller {
        for rule in rules {
            assert_eq!(judged(rule), Ok(()), "{rule:?}");
        }
        self.revision += 1;
        let message = publish(rules, base, self.revision, self.rig.upstream);
        let delta = self.rig.assembly.set_publish(parsed(&message));
        self.rig.apply(&delta);
        self.rig.active("p1").await;
        Caller::connect(self.rig.port).await
    }
}

fn get(path: &str) -> Call {
    Call { method: "GET".into(), path: path.into(), headers: vec![] }
}

#[tokio::test]
async fn routes_take_the_calls_that_the_document_says() {
    let mut stage = Stage::open().await;
    for row in table("| Route | Calls") {
        let [route, taken, not_taken] = &row[..] else { panic!("{row:?}") };
        for base in ["/", "/v1"] {
            let mut caller = stage.serve(&[rule(route)], base).await;
            for (calls, expected) in [(taken, Some(0)), (not_taken, None)] {
                for path in quoted(calls) {
                    let full = format!("{}{path}", base.trim_end_matches('/'));
                    assert_eq!(caller.ask(&get(&path), &full).await, expected, "{route}: {full}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_route_that_the_document_names_takes_the_call() {
    let mut stage = Stage::open().await;
    for row in table("| Routes | Call") {
        let [routes, call, taken_by] = &row[..] else { panic!("{row:?}") };
        let mut rules: Vec<Rule> = routes.split(", ").map(rule).collect();
        let call = quoted(call).remove(0);
        let wanted = rule(taken_by).path;
        for _ in 0..2 {
            let mut caller = stage.serve(&rules, "/").await;
            let route = caller.ask(&get(&call), &call).await.map(|at| rules[at].path.clone());
            assert_eq!(route.as_ref(), Some(&wanted), "{row:?}");
            let picked = pick(&rules, &get(&call)).map(|at| rules[at].path.clone());
            assert_eq!(picked, route, "the reference: {row:?}");
            rules.reverse();
        }
    }
}

#[test]
fn what_the_document_says_is_refused_is_refused_with_its_hint() {
    for row in table("| Refused |") {
        let [refused, hint] = &row[..] else { panic!("{row:?}") };
        let told = judged(&rule(refused)).expect_err(refused);
        let hint = quoted(hint).remove(0);
        assert!(told.contains(&hint), "{refused}: {told}");
    }
}

/// The document lists what only Envoy refuses. If Envoy or the API changes, the list must change.
#[tokio::test]
async fn what_the_document_names_is_refused_by_envoy_alone() {
    let mut stage = Stage::open().await;
    let foreign = [
        "/(?:){1001}",
        "(?x)/a",
        "(?R)/a",
        "(?u)/a",
        r"/\u0041",
        r"/\U00000041",
        r"/\x{100}",
        "/a**",
    ];
    let mut taken = Vec::new();
    for (index, expression) in foreign.iter().enumerate() {
        assert_eq!(regexes::check_path(expression), Ok(()), "{expression}");
        let rules = [Rule { path: (*expression).into(), ..rule("regex `x`") }];
        let mut message = publish(&rules, "/", 1, stage.rig.upstream);
        message.id = format!("e{index}");
        message.hostnames = vec![format!("e{index}.test")];
        let delta = stage.rig.assembly.set_publish(parsed(&message));
        stage.rig.apply(&delta);
        let scope = fixtures::scope(stage.rig.port, &format!("e{index}.test"));
        stage.rig.until(move |verdict, _| verdict.name == scope).await;
        if stage.rig.assembly.refused(&message.id).is_none() {
            taken.push(expression);
        }
    }
    assert_eq!(taken, Vec::<&&str>::new(), "Envoy takes them");
}
