//! Which route of a publish takes a call: compares Envoy with a reference that shares no code with
//! the renderer.

use std::path::Path;

use imp_grammar::{path, regexes, routes};
use imp_proto::config as pb;
use imp_translate::Layout;
use proptest::prelude::Rng as _;
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::rig::Rig;
use crate::fixtures::{self, parsed};
use crate::reference::{Call, Kind, Rule, pick};
use crate::{generated, golden};

const HOST: &str = "api.example.com";

fn kind(rule: &Rule) -> pb::path_match::Kind {
    match rule.kind {
        Kind::Exact => fixtures::exact(&rule.path),
        Kind::Prefix => fixtures::prefix(&rule.path),
        Kind::Template => fixtures::template(&rule.path),
        Kind::Regex => fixtures::regex(&rule.path),
    }
}

/// A publish with these routes, each forwarded with a host of its own.
pub(crate) fn publish(rules: &[Rule], base: &str, revision: u64, upstream: u16) -> pb::Publish {
    let mut publish = fixtures::publish("p1", HOST, revision);
    publish.base_path = base.into();
    publish.auth_mode = pb::publish::AuthMode::None.into();
    let service = fixtures::service(&mut publish);
    service.backends = vec![fixtures::backend("b1", "127.0.0.1", upstream)];
    let route = |(index, rule): (usize, &Rule)| {
        let mut route = fixtures::route(&format!("r{index}"), kind(rule));
        route.priority = rule.priority;
        route.methods = rule.methods.clone();
        let exact = |value: &String| pb::value_match::Kind::Exact(value.clone());
        let header = |(name, value): &(String, String)| fixtures::value(name, exact(value));
        route.headers = rule.headers.iter().map(header).collect();
        let host = format!("r{index}.route.test");
        route.rewrite = Some(pb::Rewrite { host, ..Default::default() });
        route
    };
    service.routes = rules.iter().enumerate().map(route).collect();
    publish
}

/// A connection that stays open.
pub(crate) struct Caller(TcpStream);

impl Caller {
    pub(crate) async fn connect(port: u16) -> Self {
        Self(TcpStream::connect(("127.0.0.1", port)).await.unwrap())
    }

    /// Returns the route that answered; `None` without one.
    pub(crate) async fn ask(&mut self, call: &Call, path: &str) -> Option<usize> {
        let headers: String =
            call.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let method = &call.method;
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: {HOST}\r\nx-api-key: good\r\n{headers}\r\n");
        self.0.write_all(request.as_bytes()).await.unwrap();
        let mut seen = Vec::new();
        loop {
            assert!(self.0.read_buf(&mut seen).await.unwrap() > 0, "closed at {path}");
            let text = String::from_utf8_lossy(&seen);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
            let length = value("content-length: ").map_or(0, |length| length.parse().unwrap());
            if body.len() < length {
                continue;
            }
            let seen = body.lines().find_map(|line| line.strip_prefix("host: r"));
            let route = seen.map(|host| host.strip_suffix(".route.test").unwrap().parse().unwrap());
            let status = head.get(9..12).unwrap();
            assert_eq!(route.is_some(), status == "200", "{path}: {head}");
            assert!(["200", "404", "405"].contains(&status), "{path}: {head}");
            return route;
        }
    }
}

/// The same path in another encoding.
fn respelled(path: &str, runner: &mut TestRunner) -> String {
    let rng = runner.rng();
    let mut sample = |among: [u8; 7]| among[usize::try_from(rng.next_u32() % 7).unwrap()];
    let mut found = String::new();
    let mut rest = path.chars();
    while let Some(c) = rest.next() {
        match (c, sample([0, 0, 0, 0, 1, 2, 3])) {
            ('%', turn) => {
                let hex: String = rest.by_ref().take(2).collect();
                let hex =
                    if turn > 1 { hex.to_ascii_uppercase() } else { hex.to_ascii_lowercase() };
                found.push_str(&format!("%{hex}"));
            }
            ('/', 1) => found.push_str("//"),
            ('/', 2) => found.push_str("/./"),
            ('/', 3) => found.push_str("/q/%2e%2E/"),
            ('/', _) | (_, 0) => found.push(c),
            (_, 1) => found.push_str(&format!("%{:02x}", u32::from(c))),
            (_, 2) => found.push_str(&format!("%{:02X}", u32::from(c))),
            (_, _) => found.push(c),
        }
    }
    found
}

/// `ROUTING_CALLS` sets the number of calls; `make test-routing` sends a hundred thousand.
#[tokio::test]
async fn envoy_takes_the_route_that_the_reference_picks() {
    const EACH: usize = 250;
    let calls: usize = std::env::var("ROUTING_CALLS").map_or(3_000, |n| n.parse().unwrap());
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    let mut runner = TestRunner::deterministic();
    // A list, and many routes, which are found by questions about segments.
    let rules = [10, 30, 120].map(|count| proptest::collection::vec(generated::rule(), count));
    let any_call = generated::call();
    let mut answered = 0;
    for round in 0..calls.div_ceil(EACH) {
        let rules = rules[round % 3].new_tree(&mut runner).unwrap().current();
        let base = ["/", "/v1"][round % 2];
        // Of two tied routes the API accepts neither.
        let tied = routes::ties(rules.iter().map(generated::route), rules.len());
        let is_tied = |at: usize| tied.iter().any(|tie| tie.second == at);
        let rules: Vec<Rule> =
            (0..rules.len()).filter(|at| !is_tied(*at)).map(|at| rules[at].clone()).collect();
        let revision = u64::try_from(round).unwrap() + 1;
        let delta =
            rig.assembly.set_publish(parsed(&publish(&rules, base, revision, rig.upstream)));
        rig.apply(&delta);
        rig.active("p1").await;
        let mut caller = Caller::connect(rig.port).await;
        for _ in 0..EACH {
            let call = any_call.new_tree(&mut runner).unwrap().current();
            // Envoy leaves "//" alone when there is nothing else.
            let path = match &*call.path {
                "/" => "/".to_owned(),
                path => respelled(path, &mut runner),
            };
            let path = format!("{}{path}", base.trim_end_matches('/'));
            let route = caller.ask(&call, &path).await;
            let picked = pick(&rules, &call);
            assert_eq!(
                route.map(|at| &rules[at].path),
                picked.map(|at| &rules[at].path),
                "{path} below {base}: {call:?}"
            );
            assert_eq!(route, picked, "{path} below {base}: {call:?} {rules:?}");
            answered += usize::from(route.is_some());
        }
    }
    assert_eq!(rig.refusals, []);
    assert!(answered * 3 > calls, "{answered} of {calls} calls were routed");
}

/// Envoy's own count, which it reports when it rejects. Ours may be greater, never smaller.
#[tokio::test]
async fn expressions_are_counted_as_envoy_counts_them() {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    let delta = rig.assembly.set_publish(parsed(&golden::rich("p0", "other.test", rig.upstream)));
    rig.apply(&delta);
    rig.active("p0").await;
    rig.set_runtime("re2.max_program_size.error_level", 1).await;
    let template =
        |text: &str| path::matcher("/", &path::Pattern::template(text).unwrap()).expression();
    let prefix =
        |text: &str| path::matcher("/", &path::Pattern::prefix(text).unwrap()).expression();
    let mut expressions = vec![
        template("/{a}"),
        template("/{a}/b/{c}/d/{e}/f/{g}/h/{i}/j/{k}"),
        template("/repos/{owner}/{repo}/compare/{base}...{head}"),
        template("/repos/{owner}/{repo}/contents/{path+}"),
        template("/v1/{name}:cancel"),
        prefix("/결제"),
        prefix("/a:b,c;d".replace(';', "!").as_str()),
    ];
    expressions.extend(
        [
            r"/o/[\w]{32}/done",
            "^/e/f$|^/g/h$",
            "/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            r"/users/\d+(/orders/\d+)?",
            r"/[^/]+/files/.*",
            r"/\pL",
            r"/\pL\pL\pL",
            r"/\PL",
            r"/[\pL\pN]",
            r"/(?i)\pL",
            r"/(?i)abcdef",
            r"/[^\pL]",
            r"/\p{Lu}",
            r"/\pN{5}",
            r"/.{20}",
            r"/[^a]{20}",
            r"/\W{20}",
            r"/\S{20}",
            r"/\D{20}",
            r"/[a-zA-Z0-9_-]{30}",
            r"/(?:a|b|c|d|e|f|g)*",
            r"/(?:ab|cd|ef){3,9}",
            r"/a{0,50}",
            r"/(a?b?c?d?){5}",
            r"/[가-힣]{3}",
            r"/[à-ÿ]+",
            r"/[[:alpha:]]{9}",
            r"/\bword\b",
            r"/(?s).{9}",
            r"/(?i)[a-z]{9}",
            r"/(?i)k{9}s{9}",
            r"/()()()()()()",
            r"/(a*)*(b+)+",
            r"/x{2,}y{3,}z{0,}",
        ]
        .map(str::to_owned),
    );
    let mut less = Vec::new();
    for (index, expression) in expressions.iter().enumerate() {
        let mut publish = fixtures::publish(&format!("e{index}"), "e.test", 1);
        publish.hostnames = vec![format!("e{index}.test")];
        let service = fixtures::service(&mut publish);
        service.backends = vec![fixtures::backend("b1", "127.0.0.1", rig.upstream)];
        service.routes = vec![fixtures::route("r", fixtures::regex(expression))];
        let delta = rig.assembly.set_publish(parsed(&publish));
        rig.apply(&delta);
        let scope = fixtures::scope(rig.port, &format!("e{index}.test"));
        rig.until(move |verdict, _| verdict.name == scope).await;
        assert!(rig.assembly.refused(&publish.id).is_some(), "Envoy takes {expression}");
        let words = &rig.refusals.last().unwrap().1;
        let behind = words.split("program size of ").nth(1).unwrap_or_else(|| panic!("{words}"));
        let envoys: u64 = behind.split(' ').next().unwrap().parse().unwrap();
        let ours = regexes::size(expression);
        if ours < envoys {
            less.push((envoys, ours, expression));
        }
    }
    assert_eq!(less, [], "Envoy counts more");
}

/// Lines of `METHODS /path`; the first line names the API.
fn definition(name: &str) -> Vec<Rule> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../bench/tests/data/paths")
        .join(format!("{name}.txt"));
    let text = std::fs::read_to_string(path).unwrap();
    let rule = |line: &str| {
        let (methods, path) = line.split_once(' ').unwrap();
        Rule {
            kind: Kind::Template,
            path: path.into(),
            priority: 0,
            methods: methods.split(',').map(str::to_owned).collect(),
            headers: vec![],
        }
    };
    text.lines().filter(|line| !line.starts_with('#')).map(rule).collect()
}

/// A path for a template: every variable has a value that no literal segment has.
fn filled(template: &str) -> String {
    let mut count = 0;
    let mut parts = template.split('{');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |path, part| {
        count += 1;
        format!("{path}value-{count}{}", part.split_once('}').unwrap().1)
    })
}

/// Each definition is one publish; every path is called with each of its methods.
#[tokio::test]
async fn every_path_of_real_definitions_goes_to_its_own_route() {
    let mut rig = Rig::start(Layout::ScopedRoutes).await;
    let delta = rig.assembly.set_gateway(fixtures::parsed_gateway(rig.port));
    rig.apply(&delta);
    let mut revision = 0;
    let mut calls = 0;
    for (name, least) in [("petstore", 13), ("twilio", 116), ("kubernetes", 520), ("github", 720)] {
        let rules = definition(name);
        assert!(rules.len() >= least, "{name}: {}", rules.len());
        let tied = routes::ties(rules.iter().map(generated::route), 9);
        assert_eq!(
            tied,
            [],
            "{name}: {:?}",
            tied.first().map(|t| [&rules[t.first], &rules[t.second]])
        );
        revision += 1;
        let delta =
            rig.assembly.set_publish(parsed(&publish(&rules, "/api", revision, rig.upstream)));
        rig.apply(&delta);
        rig.active("p1").await;
        let mut caller = Caller::connect(rig.port).await;
        for (place, rule) in rules.iter().enumerate() {
            let path = format!("/api{}", filled(&rule.path));
            // An answer to HEAD has no body with the route's name.
            for method in rule.methods.iter().filter(|method| *method != "HEAD") {
                let call = Call { method: method.clone(), path: path.clone(), headers: vec![] };
                let route = caller.ask(&call, &path).await;
                assert_eq!(
                    route,
                    Some(place),
                    "{name}: {method} {path} went to {:?}",
                    route.map(|at| &rules[at].path)
                );
                calls += 1;
            }
        }
    }
    assert!(calls > 2_000, "{calls}");
    assert_eq!(rig.refusals, []);
}
