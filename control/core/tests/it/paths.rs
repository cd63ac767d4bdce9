//! Which paths a service may route, and which routes it may not combine.

use imp_core::Check;
use imp_core::api_service::ApiServiceSpec;
use imp_core::route_order::tie;
use imp_grammar::caps;
use serde_json::{Value, json};

fn service(routes: Value) -> ApiServiceSpec {
    let backend = json!({"name": "up", "endpoints": [{"host": "up.example.com", "port": 80}]});
    let mut routes = routes;
    for (index, route) in routes.as_array_mut().unwrap().iter_mut().enumerate() {
        route["name"] = json!(format!("r{index}"));
        route["backend_id"] = json!("up");
    }
    serde_json::from_value(json!({"name": "s", "backends": [backend], "routes": routes})).unwrap()
}

fn faults(routes: Value) -> Vec<(String, String)> {
    let found = service(routes).checked().err().unwrap_or_default();
    found
        .into_iter()
        .map(|fault| (format!("{} {}", fault.pointer, fault.code), fault.detail))
        .collect()
}

fn of_path(path: Value) -> Vec<(String, String)> {
    faults(json!([{ "path": path }]))
}

#[test]
fn a_path_ends_at_its_program() {
    // A colon may arrive encoded, which costs five instructions; a variable costs about as many.
    let text = |colons: usize| format!("/{}", "a:".repeat(colons));
    let most = (1..).find(|n| !of_path(json!({"exact": text(*n)})).is_empty()).unwrap();
    assert!((200..512).contains(&most), "{most}");
    let (at, detail) = of_path(json!({"exact": text(most)})).remove(0);
    assert_eq!(at, "/routes/0/path/exact invalid_path");
    let most_words = caps::PATH_PROGRAM.value.to_string();
    assert!(detail.contains(&most_words), "{detail}");
}

#[test]
fn a_variable_ends_at_its_characters() {
    let of = |n| of_path(json!({"template": format!("/{{{}}}", "x".repeat(n))}));
    assert_eq!(of(caps::VARIABLE_CHARACTERS.size()), []);
    let (at, _) = of(caps::VARIABLE_CHARACTERS.size() + 1).remove(0);
    assert_eq!(at, "/routes/0/path/template invalid_path");
}

#[test]
fn templates_and_paths_of_real_apis_are_accepted() {
    for path in [
        json!({"template": "/teams/{enterprise-team}"}),
        json!({"template": "/2010-04-01/Accounts/{Sid}.json"}),
        json!({"template": "/repos/{owner}/{repo}/compare/{base}...{head}"}),
        json!({"template": "/repos/{owner}/{repo}/contents/{path+}"}),
        json!({"template": "/a/{b}/c/{d}/e/{f}/g/{h}/i/{j}/k/{l}"}),
        json!({"template": format!("/{}", "literal/".repeat(12))}),
        json!({"prefix": "/결제"}),
        json!({"prefix": "/%EA%B2%B0%EC%A0%9C"}),
        json!({"exact": "/a%20b"}),
        json!({"regex": r"/o/[\w]{32}/done"}),
        json!({"regex": "^/e/f$|^/g/h$"}),
    ] {
        assert_eq!(of_path(path.clone()), [], "{path}");
    }
}

#[test]
fn what_would_never_match_is_refused_with_a_hint() {
    for (path, hint) in [
        (json!({"template": "/files/*"}), "{name+}"),
        (json!({"template": "/a/:id"}), "{id}"),
        (json!({"prefix": "/files/*"}), "{name+}"),
        (json!({"exact": "/a b"}), "%20"),
        (json!({"regex": "/결제.*"}), "(?i:%EA%B2%B0)"),
    ] {
        let (_, detail) = of_path(path.clone()).remove(0);
        assert!(detail.contains(hint), "{path}: {detail}");
    }
}

#[test]
fn two_routes_that_luck_would_decide_between_are_refused_and_named() {
    let (at, detail) = faults(json!([
        {"path": {"template": "/i/{id}"}, "methods": ["GET", "PUT"]},
        {"path": {"template": "/i/{id}"}, "methods": ["POST"]},
        {"path": {"template": "/i/{item_id}"}, "methods": ["GET"]},
    ]))
    .remove(0);
    assert_eq!(at, "/routes/2/path ambiguous_route");
    assert!(detail.contains("'r0'") && detail.contains("priority"), "{detail}");
    let header = |value: &str| json!([{"name": "X-V", "value": {"exact": value}}]);
    for (fine, routes) in [
        (true, json!([{"path": {"exact": "/a"}}, {"path": {"exact": "/a"}, "priority": 1}])),
        (true, json!([{"path": {"exact": "/a"}}, {"path": {"prefix": "/a"}}])),
        (false, json!([{"path": {"exact": "/a"}}, {"path": {"template": "/a"}}])),
        (
            true,
            json!([
                {"path": {"exact": "/a"}, "headers": header("1")},
                {"path": {"exact": "/a"}, "headers": header("2")},
            ]),
        ),
        (
            false,
            json!([
                {"path": {"exact": "/a"}, "headers": header("1")},
                {"path": {"exact": "/a"}, "headers": [{"name": "x-v", "value": {"exact": "1"}}]},
            ]),
        ),
    ] {
        assert_eq!(faults(routes.clone()).is_empty(), fine, "{routes}");
    }
}

#[test]
fn a_tie_across_services_names_both() {
    let one = service(json!([{"path": {"prefix": "/x"}}, {"path": {"template": "/i/{id}"}}]));
    let other = service(json!([{"path": {"template": "/i/{item_id}"}}]));
    let tie = tie(&[&one.routes, &other.routes]).unwrap();
    assert_eq!((&*tie.first.1.name, &*tie.second.1.name), ("r1", "r0"));
    assert_eq!((tie.first.0, tie.second.0), (0, 1));
    assert!(imp_core::route_order::tie(&[&one.routes]).is_none());
}
